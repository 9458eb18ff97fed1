// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// newRealTwin makes a twin of real files of this machine. Each push has 400 of
// them, of which the one before had all but 150.
func newRealTwin(t *testing.T, pushes int) *twin {
	t.Helper()
	const size, change = 400, 150
	files := realFiles(t, size+(pushes-1)*change)
	w := newTwin(t, 0)
	w.fill = func(n int) error {
		if err := os.RemoveAll(w.tree); err != nil {
			return err
		}
		for _, path := range files[n*change:][:size] {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := writeFile(filepath.Join(w.tree, path), b, 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	return w
}

// realFiles lists files of up to 256 kB below /usr/share.
func realFiles(t *testing.T, n int) (files []string) {
	t.Helper()
	check(t, filepath.WalkDir("/usr/share", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if info, err := e.Info(); err != nil || info.Size() > 256<<10 {
			return err
		}
		if files = append(files, path); len(files) == n {
			return fs.SkipAll
		}
		return nil
	}))
	if len(files) < n {
		t.Skipf("/usr/share has %d files of such sizes, not %d", len(files), n)
	}
	return files
}
