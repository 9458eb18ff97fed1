// SPDX-License-Identifier: AGPL-3.0-or-later

package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/fault"
)

// MakeFolder makes the folder at path and those above it that are missing, all of
// that mode less the umask, durably. A folder that is there stays as it is. Its
// name is synced too if the folder above can be read: a run before this one may
// have made it and died before the sync.
//
// System calls: stat of path and what is above, up to a folder that is there; open,
// fsync and close of the folder above that; then for each folder to make: open the
// folder above, mkdir, fsync the folder above, close it.
func MakeFolder(path string, mode fs.FileMode) error { return makeFolder("", path, mode) }

// MakeFolderIn is MakeFolder below a folder that has to be there: one that was moved
// away, or whose disk was unmounted, is not made anew.
func MakeFolderIn(there, path string, mode fs.FileMode) error {
	return makeFolder(filepath.Clean(there), path, mode)
}

func makeFolder(there, path string, mode fs.FileMode) error {
	path = filepath.Clean(path)
	folder := filepath.Dir(path)
	err := checkFolder(path)
	switch {
	case err == nil:
		return syncName(path)
	case !errors.Is(err, fs.ErrNotExist) || folder == path || path == there:
		return err
	}
	if err := makeFolder(there, folder, mode); err != nil {
		return err
	}
	return inFolder(folder, func() error {
		err := fault.Point("make a folder", func() error { return os.Mkdir(path, mode) })
		if errors.Is(err, fs.ErrExist) {
			return checkFolder(path) // another process was faster
		}
		return err
	})
}

func checkFolder(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "mkdir", Path: path, Err: unix.ENOTDIR}
	}
	return err
}

// syncName makes the name of a folder durable that is there.
func syncName(path string) error {
	err := inFolder(filepath.Dir(path), func() error { return nil })
	if errors.Is(err, fs.ErrPermission) && !errors.Is(err, ErrNotSynced) {
		return nil // who may not open the folder above has made no name in it
	}
	return err
}
