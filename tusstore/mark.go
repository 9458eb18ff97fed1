// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/durable"
)

// The mark of a clean stop is a file in the staging: under its name all that is
// staged was verified and is on the disk, under the other a process works there.
// It is renamed, not made and removed, so that a stop is clean on a full disk too.
func markPath(staged string) string  { return filepath.Join(staged, "clean") }
func inUsePath(staged string) string { return filepath.Join(staged, "in-use") }

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

// takeMark tells whether the last stop was clean, and takes the mark away before
// anything is staged: from now on only a clean Close vouches for it.
func (s *Store) takeMark() (clean bool, err error) {
	if err := durable.RemoveTemporary(markPath(s.staged.path)); err != nil {
		return false, err
	}
	err = durable.Rename(markPath(s.staged.path), inUsePath(s.staged.path))
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
	err := durable.Rename(inUsePath(s.staged.path), markPath(s.staged.path))
	if errors.Is(err, fs.ErrNotExist) { // the first time
		err = durable.Create(markPath(s.staged.path), func(string) error { return nil })
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		s.cfg.Log.Warn("no space for the mark of a clean stop; the next start verifies what is staged", "err", err)
		return nil
	}
	return err
}
