// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"context"
	"io/fs"
	"path/filepath"
)

// staticDelta is what libostree makes for clients of an update: the bytes that it comes
// to, and the time that it takes.
func (b *bench) staticDelta(context.Context) ([]contender, error) {
	s := b.update
	return []contender{{"ostree static-delta generate", func(ctx context.Context, folder string) (*turn, error) {
		repo := filepath.Join(folder, "build")
		if _, err := b.output(ctx, "cp", "-a", s.repo, repo); err != nil {
			return nil, err
		}
		run := func(ctx context.Context) error {
			_, err := b.output(ctx, "ostree", "static-delta", "generate", "--repo="+repo, "--from="+s.before, "--to="+s.commit)
			return err
		}
		return &turn{run: run, end: func(t *trial) (err error) {
			t.Payload = s.payload
			t.Delivered, err = folderSize(filepath.Join(repo, "deltas"))
			return err
		}}, nil
	}}}, nil
}

// folderSize adds up the files below a folder.
func folderSize(folder string) (size int64, err error) {
	err = filepath.WalkDir(folder, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}
