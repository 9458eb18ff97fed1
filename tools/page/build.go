// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lirios/ostree-upload/test/site"
)

// A builder is a build host: it commits to one ref and pushes that.
type builder struct {
	host    *host
	token   string
	ref     string
	address string // of the server, or of the link to it
	repo    string // archive
	builds  int
}

func (h *host) builder(token, ref string) *builder {
	return &builder{host: h, token: token, ref: ref, address: h.address, repo: filepath.Join("builds", ref, "repo")}
}

// commit commits a tree of n new files, some 20 kB each.
func (b *builder) commit(ctx context.Context, n int, subject string) error {
	b.builds++
	tree := b.host.path(filepath.Join("builds", b.ref, "tree"))
	if err := os.RemoveAll(tree); err != nil {
		return err
	}
	if err := site.SmallTree(tree, n, fmt.Sprint(b.ref, b.builds)); err != nil {
		return err
	}
	if b.builds == 1 {
		if _, err := b.ostree(ctx, "init", "--mode=archive"); err != nil {
			return err
		}
	}
	_, err := b.ostree(ctx, "commit", "--fsync=false", "--branch="+b.ref, "--subject="+subject,
		"--owner-uid=0", "--owner-gid=0", "--no-xattrs", "--no-bindings", "--tree=dir="+tree)
	if err != nil {
		return err
	}
	_, err = b.ostree(ctx, "prune", "--refs-only", "--depth=1")
	return err
}

// push pushes the ref.
func (b *builder) push(ctx context.Context, flags ...string) error {
	_, err := b.host.upload(ctx, b.token, b.address, append([]string{"push", "--repo=" + b.repo, b.ref}, flags...)...)
	return err
}

func (b *builder) ostree(ctx context.Context, command string, args ...string) (string, error) {
	return b.host.output(ctx, "ostree", append([]string{command, "--repo=" + b.repo}, args...)...)
}

// upload runs ostree-upload with a token.
func (h *host) upload(ctx context.Context, token, address string, args ...string) (string, error) {
	cmd := h.command(ctx, h.binary, args...)
	cmd.Env = append(os.Environ(), "OSTREE_UPLOAD_ADDRESS="+address, "OSTREE_UPLOAD_TOKEN="+h.tokens[token])
	return output(cmd)
}
