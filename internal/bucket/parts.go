// SPDX-License-Identifier: AGPL-3.0-or-later

package bucket

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// mostParts is how many an object may have.
const mostParts = 10_000

// createInParts writes an object in parts, unless ifNone forbids it. S3's documentation says to send all of them
// again if another write of the key was under way at the end.
func (b *Bucket) createInParts(ctx context.Context, key string, from Source, ifNone *string) (err error) {
	for range b.cfg.Tries {
		if err = b.createOnce(ctx, key, from, ifNone); !isConflict(err) {
			break
		}
	}
	return err
}

// createOnce sends the parts and makes an object of them, or leaves none.
func (b *Bucket) createOnce(ctx context.Context, key string, from Source, ifNone *string) error {
	cache := immutable
	begun, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &b.cfg.Bucket, Key: b.key(key), CacheControl: &cache, ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
	}, b.tries().use)
	if err != nil {
		return b.fail(err, "write", key, needPut)
	}
	parts, err := b.sendParts(ctx, key, begun.UploadId, from)
	if err == nil {
		err = b.complete(ctx, key, begun.UploadId, parts, from, ifNone)
	}
	if err != nil {
		b.abandon(ctx, key, *begun.UploadId)
	}
	return err
}

func (b *Bucket) sendParts(ctx context.Context, key string, id *string, from Source) ([]types.CompletedPart, error) {
	size := max(b.cfg.PartSize, (from.Size+mostParts-1)/mostParts)
	var parts []types.CompletedPart
	for at := int64(0); at < from.Size; at += size {
		n := min(size, from.Size-at)
		part := Source{Content: io.NewSectionReader(from.Content, at, n), Size: n}
		sent, err := b.sendPart(ctx, key, id, int32(len(parts)+1), part)
		if err != nil {
			return nil, err
		}
		parts = append(parts, sent)
	}
	return parts, nil
}

// sendPart sends a part, which the store compares with its checksum.
func (b *Bucket) sendPart(ctx context.Context, key string, id *string, number int32, part Source) (sent types.CompletedPart, err error) {
	if part.SHA256, err = sumOf(part); err != nil {
		return sent, b.named(err, "read what to write as", key)
	}
	sum := aws.String(base64.StdEncoding.EncodeToString(part.SHA256))
	out, err := b.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &b.cfg.Bucket, Key: b.key(key), UploadId: id, PartNumber: &number,
		Body: io.NewSectionReader(part.Content, 0, part.Size), ContentLength: &part.Size, ChecksumSHA256: sum,
	}, b.tries().use, hashed(part.SHA256))
	if err != nil {
		return sent, b.fail(err, fmt.Sprintf("write part %d of", number), key, needPut)
	}
	return types.CompletedPart{ETag: out.ETag, PartNumber: &number, ChecksumSHA256: sum}, nil
}

// complete makes an object of the parts, unless ifNone forbids it.
func (b *Bucket) complete(ctx context.Context, key string, id *string, parts []types.CompletedPart, from Source, ifNone *string) error {
	tries := b.tries()
	tries.conflicts = false
	_, err := b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &b.cfg.Bucket, Key: b.key(key), UploadId: id, IfNoneMatch: ifNone,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}, tries.use)
	switch {
	case err == nil:
		return nil
	case isUnmet(err) || isAbsent(err) && tries.unsure: // an earlier try took the parts
		return b.exists(ctx, key, from, tries)
	}
	return b.fail(err, "write", key, needPut)
}

// abandonTime is how long it may take to say that parts are not wanted.
const abandonTime = time.Minute

// abandon has the store forget the parts of an upload, even if ctx has ended. Those that
// it still has if this fails are removed by AbandonBefore.
func (b *Bucket) abandon(ctx context.Context, key, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTime)
	defer cancel()
	if err := b.abort(ctx, key, id); err != nil {
		b.cfg.Log.Warn("the store keeps parts of an object that was not written", "object", b.URL(key), "err", err)
	}
}

func (b *Bucket) abort(ctx context.Context, key, id string) error {
	_, err := b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket: &b.cfg.Bucket, Key: b.key(key), UploadId: &id,
	}, b.tries().use)
	if err == nil || isAbsent(err) {
		return nil
	}
	return b.fail(err, "forget the parts of", key, needAbort)
}

// AbandonBefore has the store forget the parts of uploads that began before t and were
// not completed, as those of a process that was killed.
func (b *Bucket) AbandonBefore(ctx context.Context, t time.Time) (n int, err error) {
	root := *b.key("")
	in := &s3.ListMultipartUploadsInput{Bucket: &b.cfg.Bucket, Prefix: &root}
	for {
		page, err := b.client.ListMultipartUploads(ctx, in, b.tries().use)
		if err != nil {
			return n, b.fail(err, "list the uploads of parts in", "", "s3:ListBucketMultipartUploads")
		}
		for _, u := range page.Uploads {
			if !aws.ToTime(u.Initiated).Before(t) {
				continue
			}
			if err := b.abort(ctx, aws.ToString(u.Key)[min(len(root), len(aws.ToString(u.Key))):], aws.ToString(u.UploadId)); err != nil {
				return n, err
			}
			n++
		}
		if !aws.ToBool(page.IsTruncated) || aws.ToString(page.NextKeyMarker) == "" {
			return n, nil
		}
		in.KeyMarker, in.UploadIdMarker = page.NextKeyMarker, page.NextUploadIdMarker
	}
}
