// SPDX-License-Identifier: AGPL-3.0-or-later

package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
)

// An Entry is an object that is there. The ETag differs after each write of other bytes.
type Entry struct {
	Key  string
	Size int64
	ETag string
	// Age is how long before the answer it was written. Both times are the store's, to a
	// second: this machine's clock counts only if the store does not tell the time.
	Age time.Duration
	By  string // who wrote it, as SwapBy was told; of a list it is ""
}

// Get reads a whole object, which may have max bytes. If there is none, the error is an
// fs.ErrNotExist; if it has more, the error is an ErrLarge, and body has its beginning.
func (b *Bucket) Get(ctx context.Context, key string, max int64) (body []byte, etag string, err error) {
	body, e, err := b.Read(ctx, key, max)
	return body, e.ETag, err
}

// Read is Get for those who have to know more of the object.
func (b *Bucket) Read(ctx context.Context, key string, max int64) (body []byte, e Entry, err error) {
	var broken *brokenBody
	for range b.cfg.Tries { // the SDK does not see bodies that break off
		body, e, err = b.readOnce(ctx, key, max)
		if !errors.As(err, &broken) || ctx.Err() != nil {
			break
		}
	}
	return body, e, err
}

func (b *Bucket) readOnce(ctx context.Context, key string, max int64) ([]byte, Entry, error) {
	out, err := b.open(ctx, key)
	if err != nil {
		return nil, Entry{}, err
	}
	defer func() { _ = out.Body.Close() }() // all that is wanted of it was read
	body, err := io.ReadAll(io.LimitReader(out.Body, max+1))
	if err != nil {
		return nil, Entry{}, err
	}
	e := Entry{key, int64(len(body)), aws.ToString(out.ETag), age(out.LastModified, out.ResultMetadata), out.Metadata[byMetadata]}
	if e.Size > max {
		e.Size = aws.ToInt64(out.ContentLength)
		return body[:max], e, b.named(fmt.Errorf("%w than %d bytes", ErrLarge, max), "read", key)
	}
	return body, e, nil
}

// age is how long before an answer an object was written. It is 0 if the store does not
// say when that was: nothing is removed for an age that nobody knows.
func age(written *time.Time, answer middleware.Metadata) time.Duration {
	if written == nil {
		return 0
	}
	now, told := awsmiddleware.GetServerTime(answer)
	if !told {
		now = time.Now()
	}
	return max(0, now.Sub(*written))
}

// Reader reads an object from its start. Whoever reads it to its end has all of it, or
// an error. If there is none, the error is an fs.ErrNotExist.
func (b *Bucket) Reader(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	out, err := b.open(ctx, key)
	if err != nil {
		return nil, 0, err
	}
	return out.Body, aws.ToInt64(out.ContentLength), nil
}

// open begins to read an object.
func (b *Bucket) open(ctx context.Context, key string) (*s3.GetObjectOutput, error) {
	out, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.cfg.Bucket, Key: b.key(key)}, b.tries().use)
	if isAbsent(err) {
		return nil, b.named(fs.ErrNotExist, "read", key)
	}
	if err != nil {
		return nil, b.fail(err, "read", key, needGet)
	}
	out.Body = &bodyOf{b, key, out.Body, ctx}
	return out, nil
}

// bodyOf is the body of an answer, whose errors name the object.
type bodyOf struct {
	b    *Bucket
	key  string
	from io.ReadCloser
	ctx  context.Context
}

func (r *bodyOf) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if err != nil && err != io.EOF {
		err = r.b.named(&brokenBody{errors.Join(err, r.ctx.Err())}, "read", r.key)
	}
	return n, err
}

func (r *bodyOf) Close() error { return r.from.Close() }

// brokenBody is a body that did not come whole.
type brokenBody struct{ err error }

func (e *brokenBody) Error() string { return fmt.Sprintf("it broke off (%v)", e.err) }
func (e *brokenBody) Unwrap() []error {
	return []error{e.err, io.ErrUnexpectedEOF}
}

// Head asks for what is known of an object. If there is none, the error is an
// fs.ErrNotExist.
func (b *Bucket) Head(ctx context.Context, key string) (Entry, error) {
	out, err := b.head(ctx, key)
	if err != nil {
		return Entry{}, err
	}
	return Entry{key, aws.ToInt64(out.ContentLength), aws.ToString(out.ETag), age(out.LastModified, out.ResultMetadata), out.Metadata[byMetadata]}, nil
}

func (b *Bucket) head(ctx context.Context, key string) (*s3.HeadObjectOutput, error) {
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &b.cfg.Bucket, Key: b.key(key), ChecksumMode: "ENABLED",
	}, b.tries().use)
	if isAbsent(err) {
		return nil, b.named(fs.ErrNotExist, "look at", key)
	}
	if err != nil {
		return nil, b.fail(err, "look at", key, needGet)
	}
	return out, nil
}

// List visits the objects whose keys begin with prefix, in the order of their bytes,
// until visit returns an error, which it returns.
func (b *Bucket) List(ctx context.Context, prefix string, visit func(Entry) error) error {
	root := *b.key("")
	in := &s3.ListObjectsV2Input{Bucket: &b.cfg.Bucket, Prefix: aws.String(root + prefix)}
	for {
		page, err := b.client.ListObjectsV2(ctx, in, b.tries().use)
		if err != nil {
			return b.fail(err, "list", prefix, needList)
		}
		for _, o := range page.Contents {
			key, below := strings.CutPrefix(aws.ToString(o.Key), root)
			if !below || !strings.HasPrefix(key, prefix) {
				return b.named(fmt.Errorf("the store listed %.200q, which was not asked for", aws.ToString(o.Key)), "list", prefix)
			}
			if strings.HasSuffix(*o.Key, "/") {
				continue // consoles make such to show a folder
			}
			if err := visit(Entry{key, aws.ToInt64(o.Size), aws.ToString(o.ETag), age(o.LastModified, page.ResultMetadata), ""}); err != nil {
				return err
			}
		}
		next := aws.ToString(page.NextContinuationToken)
		switch {
		case !aws.ToBool(page.IsTruncated):
			return nil
		case next == "" || next == aws.ToString(in.ContinuationToken):
			return b.named(errors.New("the store lists no more, and says that there is more"), "list", prefix)
		}
		in.ContinuationToken = &next
	}
}
