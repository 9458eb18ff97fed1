// SPDX-License-Identifier: AGPL-3.0-or-later

package durable

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/fault"
)

// WriteUnnamed writes a file without a name and links it as name into the
// folder with the descriptor dir, whole or not at all: a kill in the middle
// leaves nothing. A file that is there stays. It does not sync. The error is
// EOPNOTSUPP or EISDIR where the file system has no O_TMPFILE.
//
// System calls: openat (O_TMPFILE), write, fstat, linkat, close.
func WriteUnnamed(dir int, name string, mode uint32, b []byte) (err error) {
	fd, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := fill(fd, mode, b); err != nil {
		return err
	}
	err = fault.Point("link an object", func() error {
		err := unix.Linkat(fd, "", dir, name, unix.AT_EMPTY_PATH)
		if errors.Is(err, unix.ENOENT) { // older kernels allow it to root only
			err = unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), dir, name, unix.AT_SYMLINK_FOLLOW)
		}
		return err
	})
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// WriteNamed does the same with the temporary name temp, which a kill may leave.
//
// System calls: openat (O_CREAT, O_EXCL), write, fstat, close, renameat2
// (RENAME_NOREPLACE).
func WriteNamed(dir int, temp, name string, mode uint32, b []byte) error {
	fd, err := unix.Openat(dir, temp, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	err = errors.Join(fill(fd, mode, b), unix.Close(fd))
	if err == nil {
		err = fault.Point("rename an object", func() error { return rename(dir, temp, dir, name) })
	}
	if err != nil {
		return errors.Join(err, unix.Unlinkat(dir, temp, 0))
	}
	return nil
}

// fill writes all of b and sets the mode, whatever the umask says.
func fill(fd int, mode uint32, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		b = b[max(n, 0):]
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&0o7777 == mode {
		return err
	}
	return unix.Fchmod(fd, mode) // the umask took something
}

// rename gives a file another name. A file that has that name stays, since it may
// be synced already, and old is removed. File systems without RENAME_NOREPLACE
// replace it.
func rename(oldDir int, old string, newDir int, name string) error {
	err := unix.Renameat2(oldDir, old, newDir, name, unix.RENAME_NOREPLACE)
	switch {
	case errors.Is(err, unix.EEXIST):
		return unix.Unlinkat(oldDir, old, 0)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return unix.Renameat(oldDir, old, newDir, name)
	}
	return err
}

// Move gives the file at path its mode and then the name in the folder with
// the descriptor dir. A file that is there stays. It does not sync.
//
// System calls: chmod, renameat2 (RENAME_NOREPLACE).
func Move(path string, mode uint32, dir int, name string) error {
	return fault.Point("move an object", func() error {
		if err := unix.Chmod(path, mode); err != nil {
			return err
		}
		return rename(unix.AT_FDCWD, path, dir, name)
	})
}
