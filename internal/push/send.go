// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// sendShared uploads a pack of the second kind.
func (r *run) sendShared(ctx context.Context, pack *encoded) error {
	size := int64(len(pack.pack))
	r.progress.begin(len(pack.names), size)
	err := r.uploader.Pack(ctx, r.session.ID, r.packName(), bytes.NewReader(pack.pack), size)
	if err == nil {
		r.progress.sent(len(pack.names), pack.ways)
	}
	return err
}

// packName is one that the session has not seen.
func (r *run) packName() string { return fmt.Sprintf("%s-%d", r.packPrefix, r.packs.Add(1)) }

// sendPack uploads a pack.
func (r *run) sendPack(ctx context.Context, pack *content) error {
	name := r.packName()
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
	r.progress.begin(len(c.parts), c.size)
	err := upload()
	if closed := c.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	r.progress.sent(len(c.parts), archiveWay(len(c.parts), c.size))
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
