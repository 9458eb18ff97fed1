// SPDX-License-Identifier: AGPL-3.0-or-later

package durable

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// What file systems can do differs, and none tells: it has to be tried. The trials
// below leave nothing behind. A full disk proves nothing, and passes.

// CanRename tries to move a file from one folder into another.
func CanRename(from, to string) error {
	return tryFile(from, func(f *os.File) error {
		other := filepath.Join(to, filepath.Base(f.Name()))
		if err := os.Rename(f.Name(), other); err != nil {
			return err
		}
		return os.Remove(other)
	})
}

// CanLink tries to give a file of one folder another name in another.
func CanLink(from, to string) error {
	return tryFile(from, func(f *os.File) error {
		other := filepath.Join(to, filepath.Base(f.Name()))
		if err := os.Link(f.Name(), other); err != nil {
			return err
		}
		return os.Remove(other)
	})
}

// CanLinkUnnamed tries what WriteUnnamed does in a folder.
func CanLinkUnnamed(folder string) error {
	return tryFile(folder, func(f *os.File) error {
		d, err := os.Open(folder)
		if err != nil {
			return err
		}
		defer d.Close()
		name := filepath.Base(f.Name()) + "-linked"
		fd, err := unix.Openat(int(d.Fd()), ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(linkUnnamed(fd, int(d.Fd()), name), unix.Close(fd)); err != nil {
			return err
		}
		return os.Remove(filepath.Join(folder, name))
	})
}

// KeepsTime tries whether a file of a folder keeps a time of modification to the
// nanosecond.
func KeepsTime(folder string, t time.Time) (keeps bool, err error) {
	keeps = true
	err = tryFile(folder, func(f *os.File) error {
		if err := SetTime(f, t); err != nil {
			return err
		}
		st, err := os.Stat(f.Name())
		keeps = err == nil && st.ModTime().Equal(t)
		return err
	})
	return keeps, err
}

// tryFile has try work on a new file of a folder.
func tryFile(folder string, try func(*os.File) error) error {
	f, err := os.CreateTemp(folder, ".trial-*")
	if err == nil {
		err = errors.Join(try(f), f.Close(), removeIfThere(f.Name()))
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return nil
	}
	return err
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
