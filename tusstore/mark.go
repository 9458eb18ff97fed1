// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lirios/ostree-upload/internal/durable"
)

// markPath is the file in the staging that a clean stop leaves: all that is
// staged was verified, and is on the disk.
func markPath(staged string) string { return filepath.Join(staged, "clean") }

// wasClean tells whether the last process that had the staging stopped cleanly.
// One that is still to be made counts as clean.
func wasClean(staged string) (bool, error) {
	marked, err := exists(markPath(staged))
	if err != nil || marked {
		return marked, err
	}
	used, err := exists(filepath.Join(staged, "objects"))
	return !used, err
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// takeMark tells whether the last stop was clean, and removes the mark before
// anything is staged: from now on only a clean Close vouches for it.
func (s *Store) takeMark() (clean bool, err error) {
	path := markPath(s.staged.path)
	if err := durable.RemoveTemporary(path); err != nil {
		return false, err
	}
	err = durable.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s.staged.created, nil
	}
	return err == nil, err
}

// leaveMark makes what is staged durable, and the mark after it.
func (s *Store) leaveMark() error {
	if err := durable.SyncFS(s.staged.path); err != nil {
		return err
	}
	return durable.Create(markPath(s.staged.path), func(string) error { return nil })
}
