// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// sendPack uploads a pack under a name that the session has not seen.
func (r *run) sendPack(ctx context.Context, pack *content) error {
	name := fmt.Sprintf("%s-%d", r.packPrefix, r.packs.Add(1))
	return r.send(pack, func() error {
		return r.uploader.Pack(ctx, r.session.ID, name, pack, pack.size)
	})
}

// sendObject uploads one object under its own name.
func (r *run) sendObject(ctx context.Context, o *ostree.Object) error {
	sum, err := digest(o)
	if err != nil {
		return err
	}
	c := newSingle(o)
	return r.send(c, func() error {
		return r.uploader.Object(ctx, r.session.ID, o.Name, sum, c, c.size)
	})
}

// send counts c as begun, uploads it, closes it and counts it as sent.
func (r *run) send(c *content, upload func() error) error {
	r.progress.begin(c)
	err := upload()
	if closed := c.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	r.progress.Sent.Add(int64(len(c.parts)))
	return nil
}

// digest is the SHA-256 of the object's archive form, in hex. Two compressors make
// two archive forms of one object.
func digest(o *ostree.Object) (string, error) {
	if o.Digest != nil {
		return hex.EncodeToString(o.Digest), nil
	}
	r, err := o.Open()
	if err != nil {
		return "", fmt.Errorf("read object %s: %w", o.Name, err)
	}
	defer r.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil {
		return "", fmt.Errorf("read object %s: %w", o.Name, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
