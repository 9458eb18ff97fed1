// SPDX-License-Identifier: AGPL-3.0-or-later

// Package durable does every write that must be whole after a crash, or
// survive a power cut, and what must not run twice.
//
//   - A file gets its name when its content is complete: a kill leaves the old
//     one or the new one, and perhaps a temporary name beside it.
//   - A failed sync is never tried again: the kernel may have dropped the pages,
//     and the next sync would succeed without them. The error is ErrNotSynced,
//     and ends whatever relies on the file system: a server stops, uncleanly,
//     so that the next one verifies what the disk has.
//   - A file or folder that is synced stays open from before its change until the
//     sync. The kernel reports an error of writing back to those descriptors; if
//     all were closed, it could drop the inode from memory, and the error with it.
//   - Each effect is a point of crash tests (internal/fault).
package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/fault"
)

// ErrNotSynced says that a sync failed: what was written may be lost although
// it can still be read.
var ErrNotSynced = errors.New("not synced")

// SyncFS makes everything durable that was written to the file system that
// holds path: one call where many files become durable at once.
//
// System calls: open path, syncfs, close.
func SyncFS(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = fault.Point("syncfs "+filepath.Base(path), func() error { return unix.Syncfs(int(f.Fd())) })
	if err != nil {
		err = fmt.Errorf("syncfs %s: %w: %w", path, ErrNotSynced, err)
	}
	return errors.Join(err, f.Close())
}

// syncFile makes a file's content durable.
func syncFile(f *os.File) error {
	if err := fault.Point("fsync", f.Sync); err != nil {
		return fmt.Errorf("%w: %w", ErrNotSynced, err)
	}
	return nil
}

// inFolder calls change, which changes a name in the folder, and makes that durable.
//
// System calls: open the folder, those of change, fsync the folder, close.
func inFolder(folder string, change func() error) error {
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	if err = change(); err == nil {
		err = syncFile(d)
	}
	return errors.Join(err, d.Close())
}

// Uncache drops what memory holds of a file, as far as it is synced, so that the
// next reader gets it from the disk: after a sync that failed, memory may still
// hold what the disk lacks.
//
// System calls: fadvise.
func Uncache(f *os.File) error {
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("fadvise %s: %w", f.Name(), err)
	}
	return nil
}

// ErrLocked says that another process holds a lock file.
var ErrLocked = errors.New("locked by another process")

// Lock takes the lock on the file at path, which it makes if there is none, until
// the returned file is closed or the process ends. It does not wait: while another
// process holds the lock the error is ErrLocked.
//
// System calls: open (O_CREAT) path, flock.
func Lock(path string) (*os.File, error) { return lock(path, os.O_CREATE) }

// LockThere is Lock of a file that is there, and no symbolic link: it makes none.
//
// System calls: open path, flock.
func LockThere(path string) (*os.File, error) { return lock(path, unix.O_NOFOLLOW) }

func lock(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flag, 0o600)
	if err != nil {
		return nil, err
	}
	err = fault.Point("lock", func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%s: %w", path, ErrLocked)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
