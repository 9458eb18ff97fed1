// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// edit changes the file at path by change, which gets its content and returns
// the new one. The file is locked meanwhile. A symbolic link stays one: what
// it points to is changed.
func edit(path string, change func([]byte) ([]byte, error)) error {
	path, err := target(path)
	if err != nil {
		return err
	}
	f, created, err := openLocked(path)
	if err != nil {
		return fmt.Errorf("opening the configuration: %w", err)
	}
	defer f.Close() // unlocks too
	text, err := rewrite(path, f, change)
	if err != nil && created {
		os.Remove(path) // nothing was put into it
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return replace(path, f, text)
}

func rewrite(path string, f *os.File, change func([]byte) ([]byte, error)) ([]byte, error) {
	old, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	return change(old)
}

// target follows symbolic links, so that a rename replaces the file and not
// the link to it.
func target(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return path, nil // a new file
		}
		return "", fmt.Errorf("%s is a symbolic link to a file that is not there", path)
	}
	return real, err
}

// openLocked opens the file at path, made if it is missing, and locks it
// against others who edit it. Who waited for the lock may then hold a file
// that was replaced meanwhile, and opens the new one.
func openLocked(path string) (f *os.File, created bool, err error) {
	for {
		f, err = os.OpenFile(path, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			created = err == nil
		}
		if err != nil {
			return nil, false, err
		}
		if err := lock(f); err != nil {
			f.Close()
			return nil, false, err
		}
		if same(path, f) {
			return f, created, nil
		}
		f.Close()
		created = false
	}
}

func lock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			return err
		}
	}
}

func same(path string, f *os.File) bool {
	there, err := os.Stat(path)
	if err != nil {
		return false
	}
	held, err := f.Stat()
	return err == nil && os.SameFile(there, held)
}

// replace gives the file at path, open as f, a new content: in one step by a
// rename, or in place where a rename cannot be. A file that is itself a mount
// point (a single file given to a container) cannot be renamed over; in a
// folder that is not ours to write, or for a file of another owner, a new file
// cannot be made as the old one was.
func replace(path string, f *os.File, text []byte) error {
	err := replaceByRename(path, f, text)
	switch {
	case errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.EXDEV),
		errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		err = replaceInPlace(f, text)
	}
	if err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	return nil
}

func replaceByRename(path string, f *os.File, text []byte) (err error) {
	folder := filepath.Dir(path)
	temp, err := os.CreateTemp(folder, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		temp.Close()
		if err != nil {
			os.Remove(temp.Name())
		}
	}()
	if err := likeOld(temp, f); err != nil {
		return err
	}
	if _, err := temp.Write(text); err != nil {
		return err
	}
	// The content before the name: else a crash leaves an empty file under it.
	if err := temp.Sync(); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return err
	}
	return syncFolder(folder)
}

// likeOld gives a new file the mode and owner of the one it replaces: the
// server, which may run as another user, must still be able to read it.
func likeOld(temp, old *os.File) error {
	info, err := old.Stat()
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := matchOwner(temp, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	return temp.Chmod(info.Mode().Perm())
}

func matchOwner(temp *os.File, uid, gid int) error {
	info, err := temp.Stat()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(st.Uid) == uid && int(st.Gid) == gid {
		return nil
	}
	return temp.Chown(uid, gid)
}

// syncFolder makes the rename itself durable: a token that was printed must
// still be one after a power cut.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// replaceInPlace writes over the old content and then cuts what is left of it.
// In that order, as a server that reads it meanwhile must not find the file
// empty.
func replaceInPlace(f *os.File, text []byte) error {
	if _, err := f.WriteAt(text, 0); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(text))); err != nil {
		return err
	}
	return f.Sync()
}
