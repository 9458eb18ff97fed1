// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
)

// live has builders push until ctx ends, each over a slow link of its own.
func (h *host) live(ctx context.Context) *errgroup.Group {
	g, ctx := errgroup.WithContext(ctx)
	for i, of := range []struct{ token, ref string }{
		{"ci-os", "os/x86_64/nightly"},
		{"ci-os", "os/aarch64/nightly"},
		{"ci-apps", "apps/org.example.Editor/aarch64/beta"},
		{"ci-apps", "runtime/org.example.Platform/x86_64/25.08"},
	} {
		b, rate := h.builder(of.token, of.ref), int64(150_000*(i+1))
		g.Go(func() error { return b.build(ctx, rate) })
	}
	return g
}

// build builds and pushes, and after some builds has the link fail for a moment, holds
// a push, or gives one up.
func (b *builder) build(ctx context.Context, rate int64) error {
	l, err := link.Listen(b.host.server.Address)
	if err != nil {
		return err
	}
	defer l.Close()
	l.Set(link.Faults{Rate: rate, Delay: 20 * time.Millisecond})
	b.address = "http://" + l.Address()
	for ctx.Err() == nil {
		if err := b.commit(ctx, 150+100*(b.builds%4), fmt.Sprintf("Nightly %d of %s", b.builds+1, b.ref)); err != nil {
			return unlessOver(ctx, err)
		}
		if err := b.pushOnce(ctx, l); err != nil {
			return unlessOver(ctx, err)
		}
	}
	return nil
}

func (b *builder) pushOnce(ctx context.Context, l *link.Proxy) error {
	switch b.builds % 4 {
	case 2:
		l.At(l.Delivered()+2_000_000, func() { go l.Cut(link.Reset) })
		return b.push(ctx)
	case 3:
		if err := b.push(ctx, "--hold"); err != nil {
			return err
		}
		return b.decide(ctx)
	default:
		return b.push(ctx)
	}
}

// decide publishes what was held before of this ref.
func (b *builder) decide(ctx context.Context) error {
	c, err := b.host.as("operator")
	if err != nil {
		return err
	}
	defer c.Close()
	held, err := c.Sessions(ctx, wire.Held)
	if err != nil {
		return err
	}
	for _, s := range held {
		if s.Refs[0].Ref != b.ref {
			continue
		}
		if _, err := c.Publish(ctx, s.ID); err != nil {
			return err
		}
	}
	return nil
}

// unlessOver is err, unless ctx has ended.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
