// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/sign"
)

// The summary of a repository in a bucket is an object that all servers write. Each reads
// it, then all refs, then writes it if it is still what was read: a ref that another one
// moved before its own writing is in it, or the writing fails and begins anew.

// The keys of the files.
const (
	summaryKey   = "summary"
	signatureKey = "summary.sig"
	indexKey     = "summary.idx"
)

const (
	maxSummary   = 1 << 30
	maxSignature = 16 << 20
)

// summaryObjects are the summary and its signature as they were read; nil: not there.
type summaryObjects struct {
	summary, signature         []byte
	summaryETag, signatureETag string
}

func (b *inBucket) writeSummary(ctx context.Context) error {
	_, err := b.summarize(ctx, "")
	return err
}

func (r *bucketChange) follow(ctx context.Context) (why string, err error) {
	return r.summarize(ctx, r.session.ID)
}

// summarize writes the summary and its signature, unless they are not ours to write. Of the
// session own all refs have moved.
func (b *inBucket) summarize(ctx context.Context, own string) (why string, err error) {
	keys := b.cfg.Keys()
	for range mostSwaps {
		there, err := b.readSummary(ctx)
		if err != nil {
			return "", err
		}
		write, why, err := b.ours(ctx, there, keys)
		if err != nil || !write {
			return why, err
		}
		err = b.placeSummary(ctx, there, keys, own)
		if err == nil || !errors.Is(err, bucket.ErrChanged) {
			return "", err
		}
	}
	return "", errors.New("other servers write the summary all the time")
}

func (b *inBucket) readSummary(ctx context.Context) (there summaryObjects, err error) {
	there.signature, there.signatureETag, err = b.get(ctx, signatureKey, maxSignature)
	if err == nil {
		there.summary, there.summaryETag, err = b.get(ctx, summaryKey, maxSummary)
	}
	return there, err
}

// get reads an object that need not be there.
func (b *inBucket) get(ctx context.Context, key string, most int64) (body []byte, etag string, err error) {
	body, etag, err = b.Bucket.Get(ctx, key, most)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	return body, etag, err
}

// ours tells whether to write the summary, and if not although clients read it, why. It
// decides as on the disk (summary.look).
func (b *inBucket) ours(ctx context.Context, there summaryObjects, keys *sign.Keys) (write bool, why string, err error) {
	setting, is := b.cfg.Summary(), there.summaryETag != ""
	switch {
	case setting == Never && is:
		return false, "the server's configuration says never", nil
	case setting == Never:
		return false, "", nil
	}
	if _, err := b.Bucket.Head(ctx, indexKey); err == nil {
		return false, "it has an index for Flatpak (summary.idx), which can only be written together with it", nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, "", err
	}
	why, err = othersSign(ctx, there, keys, setting)
	if why != "" || err != nil {
		return false, why, err
	}
	if setting == Always || setting == First {
		return true, "", nil
	}
	if !is {
		repo, err := b.read()
		return err == nil && (keys != nil || repo.AutoUpdateSummary()), "", err
	}
	for _, key := range libostree.SummaryKeys(there.summary) {
		if !slices.Contains(ours, key) {
			return false, "it holds the foreign key " + key, nil
		}
	}
	return true, "", nil
}

// othersSign tells why the signature has to be left to another program, "" if it has not.
func othersSign(ctx context.Context, there summaryObjects, keys *sign.Keys, setting Summary) (why string, err error) {
	switch {
	case there.signatureETag == "":
		return "", nil
	case keys == nil:
		return "it is signed (summary.sig), and the key is not here", nil
	case setting == Always, sign.Own(there.signature):
		return "", nil
	}
	any, err := keys.Any(ctx, there.summary, there.signature)
	if err != nil || any {
		return "", err
	}
	return "it is signed (summary.sig), and by none of this server's keys; with `summary: always` it would be signed by these", nil
}

// placeSummary writes the summary of all refs, and then its signature: a client that knew
// the pair before goes on with that as long as it gets the old signature. The error is
// bucket.ErrChanged if another server wrote one of them since they were read.
func (b *inBucket) placeSummary(ctx context.Context, there summaryObjects, keys *sign.Keys, own string) error {
	summary, err := b.makeSummary(ctx, own)
	if err != nil {
		return err
	}
	var signature []byte
	if keys != nil {
		if signature, err = keys.SignSummary(ctx, summary); err != nil {
			return err
		}
	}
	err = fault.Point("write the summary to the bucket", func() error {
		_, err := b.Bucket.Swap(ctx, summaryKey, summary, there.summaryETag)
		return err
	})
	if err != nil || keys == nil {
		return err
	}
	return fault.Point("write its signature to the bucket", func() error {
		_, err := b.Bucket.Swap(ctx, signatureKey, signature, there.signatureETag)
		return err
	})
}

// makeSummary makes the summary of all refs. Marks are read after the refs: a publish that
// began after the refs were read ends with a summary of its own, which this one gives way
// to.
func (b *inBucket) makeSummary(ctx context.Context, own string) ([]byte, error) {
	repo, err := b.read()
	if err != nil {
		return nil, err
	}
	refs, err := repo.Refs()
	if err != nil {
		return nil, err
	}
	marks, err := b.marks(ctx, own)
	if err != nil {
		return nil, err
	}
	for i := range marks {
		if err := b.leavePassed(ctx, &marks[i], refs); err != nil {
			return nil, err
		}
	}
	if err := together(refs, marks); err != nil {
		return nil, err
	}
	return repo.Summary(refs, time.Now())
}

// wrongSummary looks at the pair only if the server signs it.
func (b *inBucket) wrongSummary(ctx context.Context) (bool, error) {
	keys := b.cfg.Keys()
	if keys == nil {
		return false, nil
	}
	there, err := b.readSummary(ctx)
	if err != nil {
		return false, err
	}
	if write, _, err := b.ours(ctx, there, keys); err != nil || !write {
		return false, err
	}
	if there.summaryETag == "" || there.signatureETag == "" {
		return true, nil
	}
	signed, err := keys.All(ctx, there.summary, there.signature)
	return !signed, err
}
