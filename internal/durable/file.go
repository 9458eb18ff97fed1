// SPDX-License-Identifier: AGPL-3.0-or-later

package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/lirios/ostree-upload/internal/fault"
)

// Create makes the file at path, mode 0600, durably. It is filled under a
// temporary name, which fill gets; a file that is there already stays, and
// that is no error.
func Create(path string, fill func(temp string) error) error {
	err := place(filepath.Dir(path), path, func(f *os.File) error {
		if err := fill(f.Name()); err != nil {
			return err
		}
		return syncFile(f)
	}, linkOrRename)
	if errors.Is(err, fs.ErrExist) {
		return nil // someone else was faster
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// linkOrRename gives a file a name that no other has, as far as the file
// system can tell: some have no hard links.
func linkOrRename(old, new string) error {
	err := os.Link(old, new)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Rename(old, new)
}

// Replace gives the file at path a new content in one step, durably. fill gets
// the new file, mode 0600, and writes it.
func Replace(path string, fill func(*os.File) error) error {
	return ReplaceFrom(filepath.Dir(path), path, fill)
}

// ReplaceFrom is Replace with the temporary name in another folder, of the same
// file system.
func ReplaceFrom(folder, path string, fill func(*os.File) error) error {
	err := place(folder, path, func(f *os.File) error {
		if err := fill(f); err != nil {
			return err
		}
		// The content before the name: else a crash leaves an empty file under it.
		return syncFile(f)
	}, os.Rename)
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// Overwrite gives an open file a new content where it cannot be replaced. In
// this order, as who reads it meanwhile must not find it empty; a crash in the
// middle may leave a mixture.
func Overwrite(f *os.File, b []byte) error {
	err := fault.Point("overwrite", func() error {
		if _, err := f.WriteAt(b, 0); err != nil {
			return err
		}
		return f.Truncate(int64(len(b)))
	})
	if err != nil {
		return err
	}
	return syncFile(f)
}

// Write writes a file, mode 0600, that is whole after a crash, but may be gone
// or, after a power cut, empty. name gives it its name: os.Link if there must
// be none of that name yet, os.Rename to replace one. It does not sync: that
// would force the file system to write out all else that is under way.
func Write(path string, b []byte, name func(temp, path string) error) error {
	return place(filepath.Dir(path), path, func(f *os.File) error {
		_, err := f.Write(b)
		return err
	}, name)
}

// Remove removes the file at path durably.
func Remove(path string) error {
	if err := fault.Point("remove", func() error { return os.Remove(path) }); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// Temporary lists what a kill left of files that were to become the one at path.
func Temporary(path string) (left []string, err error) {
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), temporary(path)) {
			left = append(left, filepath.Join(filepath.Dir(path), f.Name()))
		}
	}
	return left, nil
}

// RemoveTemporary removes them. Nobody may be writing the file meanwhile.
func RemoveTemporary(path string) error {
	left, err := Temporary(path)
	for _, l := range left {
		err = errors.Join(err, os.Remove(l))
	}
	return err
}

// temporary is what temporary names of a file begin with.
func temporary(path string) string { return "." + filepath.Base(path) + "." }

// place fills a file under a temporary name in folder, which starts with a dot,
// and has it named.
func place(folder, path string, fill func(*os.File) error, name func(temp, path string) error) error {
	f, err := os.CreateTemp(folder, temporary(path)+"*")
	if err != nil {
		return err
	}
	err = fault.Point("fill a temporary file", func() error { return fill(f) })
	if err = errors.Join(err, f.Close()); err == nil {
		err = fault.Point("name it", func() error { return name(f.Name(), path) })
	}
	if gone := os.Remove(f.Name()); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}
