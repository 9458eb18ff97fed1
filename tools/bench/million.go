// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// The million: folders of filesEach small files, each with words of its own.
const (
	millionFolders = 2000
	filesEach      = 500
)

// million is a push of a repository of very many small files. It is made here
// and not kept.
func (b *bench) million(ctx context.Context) ([]contender, error) {
	s := &source{repo: b.path("million"), ref: "bench/million"}
	if _, err := b.output(ctx, "ostree", "init", "--repo="+s.repo, "--mode=bare-user-only"); err != nil {
		return nil, err
	}
	if _, err := b.output(ctx, "ostree", "config", "--repo="+s.repo, "set", "core.fsync", "false"); err != nil {
		return nil, err
	}
	tree := b.path("million-files")
	for i := range millionFolders {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		folder := filepath.Join(tree, fmt.Sprintf("d%04d", i))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
		for j := range filesEach {
			text := fmt.Sprintf("file %d of folder %d\n", j, i)
			if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("f%03d", j)), []byte(text), 0o644); err != nil {
				return nil, err
			}
		}
	}
	// Moving files into a repository of this mode is far quicker than compressing.
	var err error
	s.commit, err = b.output(ctx, "ostree", "commit", "--repo="+s.repo, "--branch="+s.ref, "--consume",
		"--canonical-permissions", "--no-xattrs", "--tree=dir="+tree)
	if err != nil {
		return nil, err
	}
	return []contender{b.pushing(s, straight, "auto")}, b.weigh(s)
}
