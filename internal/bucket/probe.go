// SPDX-License-Identifier: AGPL-3.0-or-later

package bucket

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/lirios/ostree-upload/internal/hint"
)

// Probe tries what the repository relies on: that objects can be listed, written, read and
// deleted, that what was written is read at once, and that conditions of writes are kept.
// A store that ignores them is refused.
func (b *Bucket) Probe(ctx context.Context) error {
	if err := b.dropProbes(ctx); err != nil {
		return err
	}
	key := probes + rand.Text()
	err := b.probe(ctx, key)
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTime)
	defer cancel()
	if gone := b.Delete(clean, key, ""); err == nil {
		err = gone
	}
	return err
}

// probes is where Probe makes its objects.
const probes = ".ostree-upload/probe-"

// oldProbe is when a probe has long ended, or was killed.
const oldProbe = 24 * time.Hour

// dropProbes removes what probes have left that were killed.
func (b *Bucket) dropProbes(ctx context.Context) error {
	return b.List(ctx, probes, func(e Entry) error {
		if e.Age < oldProbe {
			return nil
		}
		return b.Delete(ctx, e.Key, "")
	})
}

func (b *Bucket) probe(ctx context.Context, key string) error {
	first, err := b.Swap(ctx, key, []byte("first"), "")
	if err != nil {
		return err
	}
	if body, _, err := b.Get(ctx, key, 100); err != nil {
		return err
	} else if !bytes.Equal(body, []byte("first")) {
		return b.unfit(ctx, "does not read what was just written")
	}
	if err := b.refuses(ctx, "ignores If-None-Match", func() error {
		_, err := b.Swap(ctx, key, []byte("other"), "")
		return err
	}); err != nil {
		return err
	}
	if _, err := b.Swap(ctx, key, []byte("second"), first); err != nil {
		return b.unchangeable(ctx, err)
	}
	if err := b.refuses(ctx, "ignores If-Match", func() error {
		_, err := b.Swap(ctx, key, []byte("third"), first)
		return err
	}); err != nil {
		return err
	}
	if err := b.refuses(ctx, "ignores If-None-Match when it completes an upload of parts", func() error {
		return b.createInParts(ctx, key, bytesOf([]byte("parts")), anyETag)
	}); err != nil {
		return err
	}
	return b.probeDelete(ctx, key, first)
}

// refuses reports a store that did what a condition forbids.
func (b *Bucket) refuses(ctx context.Context, fault string, try func() error) error {
	err := try()
	switch {
	case errors.Is(err, ErrChanged) || errors.Is(err, fs.ErrExist):
		return nil
	case err == nil:
		return b.unfit(ctx, fault)
	}
	return b.unchangeable(ctx, err)
}

// unchangeable is the error of a conditional write; a store that does not know conditions
// may say so by 501.
func (b *Bucket) unchangeable(ctx context.Context, err error) error {
	switch {
	case codeOf(err) == "NotImplemented":
		return b.unfit(ctx, "does not know conditional writes")
	case errors.Is(err, ErrChanged):
		return b.unfit(ctx, "does not take its own ETag as the condition of a write")
	}
	return err
}

// probeDelete finds out whether a deletion can have a condition, which the repository
// does not rely on.
func (b *Bucket) probeDelete(ctx context.Context, key, wrong string) error {
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.cfg.Bucket, Key: b.key(key), IfMatch: &wrong}, b.tries().use)
	if err == nil {
		_, err = b.Head(ctx, key)
		if errors.Is(err, fs.ErrNotExist) {
			b.cfg.Log.Info("the store ignores If-Match at deletions", "bucket", b.String())
			return nil
		}
		return err
	}
	if isUnmet(err) {
		b.deletesByMatch.Store(true)
		return nil
	}
	if codeOf(err) == "NotImplemented" {
		return nil
	}
	return b.fail(err, "delete", key, needDelete)
}

// unfit is the error for a store that cannot hold a repository.
func (b *Bucket) unfit(ctx context.Context, fault string) error {
	return hint.Add(b.named(fmt.Errorf("the store, %s, %s: refs could be lost there", b.server(ctx), fault), "use", ""),
		"upgrade the store to a version with conditional writes (If-Match, If-None-Match), or use another; MinIO, Ceph RGW, versitygw and AWS have them in their present versions")
}

// server is the name that the store gives itself, and where it is.
func (b *Bucket) server(ctx context.Context) string {
	name := "which does not tell its name"
	see := middleware.DeserializeMiddlewareFunc("server", func(
		ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler,
	) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		if answer, is := out.RawResponse.(*smithyhttp.Response); is && answer.Header.Get("Server") != "" {
			name = strings.ToValidUTF8(fmt.Sprintf("%.100q", answer.Header.Get("Server")), "?")
		}
		return out, metadata, err
	})
	// Only its headers count, whatever it answers.
	_, _ = b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.cfg.Bucket}, func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Deserialize.Add(see, middleware.After)
		})
	})
	if b.cfg.Endpoint == "" {
		return name
	}
	return name + " at " + b.cfg.Endpoint
}
