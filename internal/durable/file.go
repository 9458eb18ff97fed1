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

// Create makes the file at path, mode 0600, durably. fill gets a temporary name
// and fills the file under that. If there is a file at path, it stays as it is;
// that is not an error, and its name is durable afterwards.
//
// System calls: open the folder, open (O_CREAT, O_EXCL) the temporary name, those
// of fill, fsync the file, close it, link it to path, unlink the temporary name,
// fsync the folder, close it.
func Create(path string, fill func(temp string) error) error {
	folder := filepath.Dir(path)
	return inFolder(folder, func() error {
		err := place(folder, path, func(f *os.File) error {
			if err := fill(f.Name()); err != nil {
				return err
			}
			return syncFile(f)
		}, linkOrRename)
		if errors.Is(err, fs.ErrExist) {
			return nil // perhaps a run before this one made it and did not come to the sync
		}
		return err
	})
}

// linkOrRename gives a file a name that no other file has. Some file systems have
// no hard links; there it may replace a file.
func linkOrRename(old, new string) error {
	err := os.Link(old, new)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Rename(old, new)
}

// Replace gives the file at path a new content in one step, durably. fill gets
// the new file, mode 0600, and writes it.
//
// System calls: open the folder, open (O_CREAT, O_EXCL) a temporary name, those of
// fill, fsync the file, close it, rename it to path, unlink and rmdir the temporary
// name (which find nothing), fsync the folder, close it.
func Replace(path string, fill func(*os.File) error) error {
	return ReplaceFrom(filepath.Dir(path), path, fill)
}

// ReplaceFrom is Replace with the temporary name in another folder of the same
// file system. It syncs the folder of path, not that one: a power cut may leave the
// temporary name beside the new content.
//
// System calls: those of Replace.
func ReplaceFrom(folder, path string, fill func(*os.File) error) error {
	return inFolder(filepath.Dir(path), func() error {
		return place(folder, path, func(f *os.File) error {
			if err := fill(f); err != nil {
				return err
			}
			// The content before the name: else a crash leaves an empty file there.
			return syncFile(f)
		}, os.Rename)
	})
}

// Fill makes the file at path, of which there is none yet, mode 0666 less the umask, and
// makes its content durable, not its name: for a caller that renames it.
//
// System calls: open (O_CREAT, O_EXCL) path, write, fsync, close.
func Fill(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666) // #nosec G302 -- as others may read it
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = syncFile(f)
	}
	return errors.Join(err, f.Close())
}

// Overwrite gives an open file a new content where it cannot be replaced. It
// writes first and truncates then, so that nobody reads an empty file meanwhile. A
// crash in between may leave a mixture of both contents.
//
// System calls: pwrite, ftruncate, fsync.
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

// Write writes or replaces a file, mode 0600. A kill leaves all of it or none; a
// power cut may also leave it empty. It does not sync, which would make the file
// system write out all else that is under way.
//
// System calls: open (O_CREAT, O_EXCL) a temporary name, write, close, rename it to
// path, unlink and rmdir the temporary name (which find nothing).
func Write(path string, b []byte) error {
	return place(filepath.Dir(path), path, func(f *os.File) error {
		_, err := f.Write(b)
		return err
	}, os.Rename)
}

// Remove removes the file at path durably.
//
// System calls: open the folder, unlink path, fsync the folder, close it.
func Remove(path string) error {
	return inFolder(filepath.Dir(path), func() error {
		return fault.Point("remove", func() error { return os.Remove(path) })
	})
}

// Rename renames a file durably, within its folder. It takes no space: it succeeds on
// a full disk.
//
// System calls: open the folder, rename, fsync the folder, close it.
func Rename(old, new string) error {
	return inFolder(filepath.Dir(new), func() error {
		return fault.Point("rename", func() error { return os.Rename(old, new) })
	})
}

// Temporary lists what kills left of files that were to get the name path.
//
// System calls: those of reading the folder.
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

// RemoveTemporary removes what Temporary lists. Nobody may be writing the file at
// path meanwhile. It does not sync: what comes back can be removed again.
//
// System calls: those of Temporary, unlink for each.
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
// and calls name to give it its own.
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
