// SPDX-License-Identifier: AGPL-3.0-or-later

// Package durable does what must survive a power cut, and what must not run
// twice.
//
// A failed sync is never tried again: the kernel may have dropped the pages, so
// the operation that needed it ends.
package durable

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// SyncFS makes everything durable that was written to the file system that
// holds path: one call where many files become durable at once.
func SyncFS(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = unix.Syncfs(int(f.Fd()))
	if err != nil {
		err = fmt.Errorf("syncfs %s: %w", path, err)
	}
	return errors.Join(err, f.Close())
}

// ErrLocked says that another process holds a lock file.
var ErrLocked = errors.New("locked by another process")

// Lock takes the lock file path, made if it is not there, until the returned
// file is closed or the process ends. It does not wait: the error is ErrLocked.
func Lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%s: %w", path, ErrLocked)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
