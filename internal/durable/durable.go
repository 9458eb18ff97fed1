// SPDX-License-Identifier: AGPL-3.0-or-later

// Package durable does the writes that must survive a power cut.
//
// When a function returns nil, what it names is on the disk under its final
// name, whole. When it returns an error, the final name holds what it held
// before or the new bytes, never a part. A failed fsync is never tried again
// on the same file: the kernel may have dropped the pages, so the operation
// that needed it ends.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// WriteFile replaces the file path by one with these bytes and this mode,
// whatever the umask is.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	tmp, err := writeTemp(path, data, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return SyncDir(filepath.Dir(path))
}

// CreateFile is WriteFile for a file that must not exist: the error is then
// fs.ErrExist, and the file is as it was.
func CreateFile(path string, data []byte, mode fs.FileMode) error {
	tmp, err := writeTemp(path, data, mode)
	if err != nil {
		return err
	}
	// A link, since a rename would replace what is there.
	err = os.Link(tmp, path)
	if err := errors.Join(err, os.Remove(tmp)); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// TempPrefix starts the name of a file that a killed write left behind. It may
// be deleted when no write is under way in its folder.
const TempPrefix = ".tmp-"

// writeTemp makes a synced file beside path and returns its name.
func writeTemp(path string, data []byte, mode fs.FileMode) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), TempPrefix)
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync() // the bytes, before a name points to them
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// SyncFile makes a file's bytes durable.
func SyncFile(path string) error { return syncPath(path) }

// SyncDir makes the names in a folder durable.
func SyncDir(path string) error { return syncPath(path) }

// SyncUp makes the name of path durable, and those of its folders up to and
// with the folder top.
func SyncUp(path, top string) error {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if err := SyncDir(dir); err != nil {
			return err
		}
		if dir == top || !strings.HasPrefix(dir, top) {
			return nil
		}
	}
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

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
