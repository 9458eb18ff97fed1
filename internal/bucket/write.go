// SPDX-License-Identifier: AGPL-3.0-or-later

package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
)

// What caches between the bucket and clients may do with an object.
const (
	immutable = "public, max-age=31536000, immutable" // its name is of its content
	noCache   = "no-cache"                            // they ask each time whether it has changed
)

// Create writes an object that never changes. If there is one of this key that another
// call wrote, the error is an fs.ErrExist, and nothing was written. Objects that are larger
// than one request may be are written in parts.
func (b *Bucket) Create(ctx context.Context, key string, from Source) error {
	return b.create(ctx, key, from, anyETag)
}

// anyETag is what no object may have that Create writes.
var anyETag = aws.String("*")

// Overwrite writes an object that never changes over one that is not what it should be,
// which is there until then.
func (b *Bucket) Overwrite(ctx context.Context, key string, from Source) error {
	return b.create(ctx, key, from, nil)
}

// create writes an object, unless ifNone forbids it.
func (b *Bucket) create(ctx context.Context, key string, from Source, ifNone *string) (err error) {
	if from.Size > b.cfg.PartsAbove {
		return b.createInParts(ctx, key, from, ifNone)
	}
	if from.SHA256 == nil {
		if from.SHA256, err = sumOf(from); err != nil {
			return b.named(err, "read what to write as", key)
		}
	}
	tries := b.tries()
	_, err = b.put(ctx, key, from, immutable, &s3.PutObjectInput{IfNoneMatch: ifNone}, tries)
	if isUnmet(err) {
		return b.exists(ctx, key, from, tries)
	}
	if err != nil {
		return b.fail(err, "write", key, needPut)
	}
	return nil
}

// exists is what becomes of a Create that found an object of its key: it may be its own.
func (b *Bucket) exists(ctx context.Context, key string, from Source, tries *tries) error {
	if tries.unsure {
		if _, same, err := b.same(ctx, key, from); same || err != nil {
			return err
		}
	}
	return b.named(fs.ErrExist, "write", key)
}

// Put writes an object that changes, whatever is there.
func (b *Bucket) Put(ctx context.Context, key string, body []byte) (etag string, err error) {
	etag, err = b.put(ctx, key, bytesOf(body), noCache, &s3.PutObjectInput{}, b.tries())
	if err != nil {
		return "", b.fail(err, "write", key, needPut)
	}
	return etag, nil
}

// Swap writes an object that changes if it still has this ETag, or if there is none and
// etag is "". Else the error is ErrChanged. If it has the body already, that is as good.
//
// After an error that is not ErrChanged it may have been written.
func (b *Bucket) Swap(ctx context.Context, key string, body []byte, etag string) (newETag string, err error) {
	return b.SwapBy(ctx, "", key, body, etag)
}

// byMetadata is the name, in lower case, of the metadata of an object (x-amz-meta-...) that
// tells who wrote it.
const byMetadata = "by"

// SwapBy is Swap that notes with the object who wrote it.
func (b *Bucket) SwapBy(ctx context.Context, by, key string, body []byte, etag string) (newETag string, err error) {
	condition := &s3.PutObjectInput{IfNoneMatch: aws.String("*")}
	if etag != "" {
		condition = &s3.PutObjectInput{IfMatch: &etag}
	}
	if by != "" {
		condition.Metadata = map[string]string{byMetadata: by}
	}
	newETag, err = b.put(ctx, key, bytesOf(body), noCache, condition, b.tries())
	if isUnmet(err) || isAbsent(err) { // S3 answers 404 to If-Match if there is none any more
		return b.swapped(ctx, key, body)
	}
	if err != nil {
		return "", b.fail(err, "write", key, needPut)
	}
	return newETag, nil
}

// swapped is what becomes of a Swap that found another object: it may be its own.
func (b *Bucket) swapped(ctx context.Context, key string, body []byte) (etag string, err error) {
	etag, same, err := b.same(ctx, key, bytesOf(body))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if !same {
		return "", b.named(ErrChanged, "write", key)
	}
	return etag, nil
}

// put sends one request of a body, with the conditions that in has.
func (b *Bucket) put(ctx context.Context, key string, from Source, cache string, in *s3.PutObjectInput, tries *tries) (etag string, err error) {
	in.Bucket, in.Key = &b.cfg.Bucket, b.key(key)
	in.Body, in.ContentLength = io.NewSectionReader(from.Content, 0, from.Size), &from.Size
	in.ChecksumSHA256 = aws.String(base64.StdEncoding.EncodeToString(from.SHA256))
	in.CacheControl = &cache
	out, err := b.client.PutObject(ctx, in, tries.use, hashed(from.SHA256))
	if err != nil {
		return "", err
	}
	return *out.ETag, nil
}

// hashed tells the signature of a request the hash of its body, which else would be read
// once more for it.
func hashed(sum []byte) func(*s3.Options) {
	set := middleware.InitializeMiddlewareFunc("hashed", func(
		ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(v4.SetPayloadHash(ctx, hex.EncodeToString(sum)), in)
	})
	return func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(set, middleware.Before)
		})
	}
}

func bytesOf(body []byte) Source {
	sum := sha256.Sum256(body)
	return Source{bytes.NewReader(body), int64(len(body)), sum[:]}
}

func sumOf(s Source) ([]byte, error) {
	hash := sha256.New()
	n, err := io.Copy(hash, io.NewSectionReader(s.Content, 0, s.Size))
	if err == nil && n < s.Size {
		err = fmt.Errorf("it has %d bytes, not %d: %w", n, s.Size, io.ErrUnexpectedEOF)
	}
	return hash.Sum(nil), err
}

// same tells whether the object of a key has these bytes.
func (b *Bucket) same(ctx context.Context, key string, want Source) (etag string, same bool, err error) {
	out, err := b.head(ctx, key)
	if err != nil {
		return "", false, err
	}
	etag = aws.ToString(out.ETag)
	if aws.ToInt64(out.ContentLength) != want.Size {
		return etag, false, nil
	}
	sum := want.SHA256
	if sum == nil {
		if sum, err = sumOf(want); err != nil {
			return "", false, b.named(err, "read what to write as", key)
		}
	}
	if there, err := base64.StdEncoding.DecodeString(aws.ToString(out.ChecksumSHA256)); err == nil && len(there) == len(sum) {
		return etag, bytes.Equal(there, sum), nil
	}
	there, err := b.read(ctx, key, etag) // the store keeps no checksum, or one of parts
	return etag, bytes.Equal(there, sum), err
}

// read is the SHA-256 of the object of a key that still has this ETag.
func (b *Bucket) read(ctx context.Context, key, etag string) ([]byte, error) {
	out, err := b.open(ctx, key)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Body.Close() }() // read to its end, or failed
	if aws.ToString(out.ETag) != etag {
		return nil, nil // another write came between
	}
	hash := sha256.New()
	_, err = io.Copy(hash, out.Body)
	return hash.Sum(nil), err
}

// Delete removes an object. If etag is not "", it must still have that, else the error is
// ErrChanged. Removing one that is not there is not an error.
//
// A store for which DeletesByMatch is false cannot look and delete in one step: there a
// write of somebody else that comes between the two is lost.
func (b *Bucket) Delete(ctx context.Context, key, etag string) error {
	in := &s3.DeleteObjectInput{Bucket: &b.cfg.Bucket, Key: b.key(key)}
	if etag != "" && b.DeletesByMatch() {
		in.IfMatch = &etag
	} else if etag != "" {
		if gone, err := b.unchanged(ctx, key, etag); gone || err != nil {
			return err
		}
	}
	_, err := b.client.DeleteObject(ctx, in, b.tries().use)
	switch {
	case err == nil || isAbsent(err):
		return nil
	case isUnmet(err): // as some stores say of what is not there, which a lost try may have removed
		gone, err := b.unchanged(ctx, key, etag)
		if !gone && err == nil { // it was another one when the store compared
			err = b.named(ErrChanged, "delete", key)
		}
		return err
	}
	return b.fail(err, "delete", key, needDelete)
}

// unchanged reports an object that has another ETag, and tells whether there is none.
func (b *Bucket) unchanged(ctx context.Context, key, etag string) (gone bool, err error) {
	now, err := b.Head(ctx, key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case err == nil && now.ETag != etag:
		err = b.named(ErrChanged, "delete", key)
	}
	return false, err
}

// DeletesByMatch tells whether a Probe found that a deletion can have a condition.
func (b *Bucket) DeletesByMatch() bool { return b.deletesByMatch.Load() }
