// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// makePast gives the server what it remembers: refs with histories, and sessions that
// ended in all ways.
func (h *host) makePast(ctx context.Context) error {
	for _, do := range []func(context.Context) error{
		h.expire, h.publishRefs, h.moveRefs, h.failCheck, h.abort, h.holdAndReject, h.sendBad,
	} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// expire lets a session lie idle until its time is over.
func (h *host) expire(ctx context.Context) error {
	c, err := h.as("operator")
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := c.OpenSession(ctx, newRef("apps/org.example.Forgotten/x86_64/stable"))
	for err == nil && s.State == wire.Open {
		s, err = c.Session(ctx, s.ID, time.Minute)
	}
	if err != nil {
		return err
	}
	return h.remember()
}

// newRef asks to make a ref that names a commit which nobody has.
func newRef(ref string) wire.OpenRequest {
	sum := sha256.Sum256([]byte(ref))
	return wire.OpenRequest{Refs: []wire.Ref{{Ref: ref, New: hex.EncodeToString(sum[:])}}}
}

// publishRefs publishes some builds of each ref.
func (h *host) publishRefs(ctx context.Context) error {
	for i, r := range []struct{ token, ref, subject string }{
		{"ci-os", "os/x86_64/testing", "Update to kernel 7.1.2"},
		{"ci-os", "os/aarch64/testing", "Update to kernel 7.1.2"},
		{"ci-os", "os/riscv64/testing", "First build for RISC-V"},
		{"ci-apps", "apps/org.example.Editor/x86_64/stable", "Editor 48.1: it opens files over 4 GiB, and the search is a hundred times as fast in long lines"},
		{"ci-apps", "apps/org.example.Kartenspiel.fuer.grosse.Runden/x86_64/stable", "Kartenspiel: größere Karten"},
		{"ci-apps", "runtime/org.example.Platform.GraphicsDriver.experimental-580-95-05.with-all-extensions/x86_64/25.08-beta-with-a-name-that-does-not-end-soon", "Import from the vendor's archive"},
	} {
		b := h.builder(r.token, r.ref)
		for n := range 1 + (5-i)/2 {
			subject := r.subject
			if n > 0 {
				subject = fmt.Sprintf("%s (build %d)", r.subject, n+1)
			}
			if err := b.commit(ctx, 10+30*n, subject); err != nil {
				return err
			}
			if err := b.push(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// moveRefs promotes, rolls back and deletes.
func (h *host) moveRefs(ctx context.Context) error {
	for _, args := range [][]string{
		{"set", "os/x86_64/stable", "os/x86_64/testing"},
		{"set", "os/aarch64/stable=os/aarch64/testing", "os/riscv64/stable=os/riscv64/testing"},
		{"rollback", "os/x86_64/testing"},
		{"delete", "os/riscv64/stable"},
	} {
		if _, err := h.upload(ctx, "release", h.address, append([]string{"refs"}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

// failCheck pushes what the operator's check refuses.
func (h *host) failCheck(ctx context.Context) error {
	b := h.builder("ci-os", "os/x86_64/kernel-broken")
	if err := b.commit(ctx, 12, "A kernel without its initramfs"); err != nil {
		return err
	}
	if err := b.push(ctx); err == nil {
		return fmt.Errorf("%s was published", b.ref)
	}
	return nil
}

func (h *host) abort(ctx context.Context) error {
	c, err := h.as("ci-apps")
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := c.OpenSession(ctx, newRef("apps/org.example.Music/x86_64/stable"))
	if err != nil {
		return err
	}
	_, err = c.Abort(ctx, s.ID)
	return err
}

// holdAndReject leaves a session that was rejected, and one that waits for a decision.
func (h *host) holdAndReject(ctx context.Context) error {
	b := h.builder("ci-os", "os/armv7/stable")
	if err := b.commit(ctx, 20, "The last build for 32 bits"); err != nil {
		return err
	}
	if err := b.push(ctx, "--hold"); err != nil {
		return err
	}
	c, err := h.as("release")
	if err != nil {
		return err
	}
	defer c.Close()
	held, err := c.Sessions(ctx, wire.Held)
	if err != nil {
		return err
	}
	for _, s := range held {
		if _, err := c.Reject(ctx, s.ID, "it does not start on a board with 512 MB; see the report of the test laboratory"); err != nil {
			return err
		}
	}
	b = h.builder("ci-os", "os/x86_64/stable")
	if err := b.commit(ctx, 60, "Release 24.11: new installer, kernel 7.1.2, and 214 mended faults"); err != nil {
		return err
	}
	return b.push(ctx, "--hold", "--force")
}

// sendBad sends a build of which two files have been damaged, object by object.
func (h *host) sendBad(ctx context.Context) error {
	b := h.builder("ci-os", "os/x86_64/rawhide")
	if err := b.commit(ctx, 30, "Nightly of 26 November"); err != nil {
		return err
	}
	repo, err := ostree.OpenRepo(h.path(b.repo))
	if err != nil {
		return err
	}
	commit, err := repo.Ref(b.ref)
	if err != nil {
		return err
	}
	var names []ostree.Name
	err = repo.Walk(ctx, []ostree.Checksum{commit}, ostree.WalkOptions{}, func(n ostree.Name) error {
		names = append(names, n)
		return nil
	})
	if err != nil {
		return err
	}
	return h.sendDamaged(ctx, repo, wire.OpenRequest{Refs: []wire.Ref{{Ref: b.ref, New: commit.String()}}}, names)
}

func (h *host) sendDamaged(ctx context.Context, repo *ostree.Repo, open wire.OpenRequest, names []ostree.Name) error {
	c, err := h.as("ci-os")
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := c.OpenSession(ctx, open)
	if err != nil {
		return err
	}
	lacking, err := c.Negotiate(ctx, s.ID, names)
	if err != nil {
		return err
	}
	traffic := new(client.Traffic)
	uploader := client.NewUploader(c, client.NewRetrier(0, 0, new(atomic.Int64), slog.New(slog.DiscardHandler)), traffic, 1<<20)
	damaged := 0
	for _, n := range lacking {
		content, err := os.ReadFile(repo.ObjectPath(n))
		if err != nil {
			return err
		}
		if n.Type == ostree.File && damaged < 2 {
			content[len(content)/2] ^= 1
			damaged++
		}
		digest := sha256.Sum256(content)
		if err := uploader.Object(ctx, s.ID, n, hex.EncodeToString(digest[:]), bytes.NewReader(content), int64(len(content))); err != nil {
			return err
		}
	}
	_, err = c.Negotiate(ctx, s.ID, names) // waits until what came is verified
	return err
}
