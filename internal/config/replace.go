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
	"time"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/hint"
)

// edit changes the file at path by change, which gets its content and returns
// the new one. The file is locked meanwhile. A symbolic link stays one: what
// it points to is changed. A file that is missing is made, or is an error.
func edit(path string, create bool, change func([]byte) ([]byte, error)) error {
	path, err := target(path)
	if err == nil {
		err = checkKind(path)
	}
	if err != nil {
		return err
	}
	f, created, err := openLocked(path, create)
	if !create && errors.Is(err, fs.ErrNotExist) {
		return &missingError{path}
	}
	if err != nil {
		return unwritable(fmt.Errorf("open the configuration: %w", err))
	}
	defer f.Close() // unlocks too
	text, err := rewrite(path, f, change)
	if err != nil && created {
		_ = os.Remove(path) // nothing was put into it
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return replace(path, f, text)
}

// unwritable adds what to do about a file that cannot be changed.
func unwritable(err error) error {
	switch {
	case errors.Is(err, syscall.EROFS):
		return hint.Add(err, "it is mounted read-only here; run this where it can be written, such as on the host of a container")
	case errors.Is(err, fs.ErrPermission):
		return hint.Add(err, "run this as a user who may write to the file, such as root")
	case errors.Is(err, fs.ErrNotExist):
		return hint.Add(err, "make its folder first")
	}
	return notFolder(err)
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
		if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			return path, nil // a new file, which someone else may have made by now
		}
		return "", fmt.Errorf("%s is a symbolic link to a file that is not there", path)
	}
	return real, err
}

// checkKind refuses what is no file: a pipe has no content to keep, and a device such as
// /dev/null would become a file. Of a folder openLocked tells.
func checkKind(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Mode().IsRegular() || info.IsDir() {
		return nil
	}
	return hint.Add(fmt.Errorf("%s is not a file (%s), so no token can be kept in it", path, info.Mode().Type()), "name a file with --config")
}

// openLocked opens the file at path, made if it is missing and may be, and locks it
// against others who edit it. Who waited for the lock may then hold a file
// that was replaced meanwhile, and opens the new one.
func openLocked(path string, create bool) (f *os.File, created bool, err error) {
	for {
		f, err = os.OpenFile(path, os.O_RDWR, 0)
		if create && errors.Is(err, fs.ErrNotExist) {
			f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			created = err == nil
		}
		if err != nil {
			return nil, false, err
		}
		if err := lock(f, lockTime); err != nil {
			_ = f.Close()
			return nil, false, err
		}
		if same(path, f) {
			return f, created, nil
		}
		_ = f.Close()
		created = false
	}
}

// lockTime is how long another process may be at work on the file: an edit takes no
// second. Whoever holds it for longer, such as a backup, must not have us wait without a
// word.
const lockTime, lockPause = 10 * time.Second, 20 * time.Millisecond

func lock(f *os.File, patience time.Duration) error {
	for until := time.Now().Add(patience); ; time.Sleep(lockPause) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case err != syscall.EWOULDBLOCK && err != syscall.EINTR:
			return err
		case time.Now().After(until):
			return hint.Add(fmt.Errorf("another process has locked %s", f.Name()), "see by `fuser -v %s` which one it is, and try again when it has ended", f.Name())
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
	err := durable.Replace(path, func(temp *os.File) error {
		if err := likeOld(temp, f); err != nil {
			return err
		}
		_, err := temp.Write(text)
		return err
	})
	switch {
	case errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.EXDEV),
		errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		err = durable.Overwrite(f, text)
	}
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
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
