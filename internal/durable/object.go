// SPDX-License-Identifier: AGPL-3.0-or-later

package durable

import (
	"errors"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/fault"
)

// WriteUnnamed writes a file without a name and links it as name into the
// folder with the descriptor dir, whole or not at all: a kill in the middle
// leaves nothing. Mtime is its time of modification. A file that is there stays.
// It does not sync. Not every file system can do this: CanLinkUnnamed tells.
//
// System calls: openat (O_TMPFILE), write, fstat, utimensat, linkat, close.
func WriteUnnamed(dir int, name string, mode uint32, mtime time.Time, b []byte) (err error) {
	fd, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := fill(fd, mode, mtime, b); err != nil {
		return err
	}
	err = fault.Point("link an object", func() error { return linkUnnamed(fd, dir, name) })
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

func linkUnnamed(fd, dir int, name string) error {
	err := unix.Linkat(fd, "", dir, name, unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.ENOENT) { // older kernels allow it to root only
		err = unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), dir, name, unix.AT_SYMLINK_FOLLOW)
	}
	return err
}

// WriteNamed does the same with the temporary name temp, which a kill may leave.
//
// System calls: openat (O_CREAT, O_EXCL), write, fstat, utimensat, close, renameat2
// (RENAME_NOREPLACE).
func WriteNamed(dir int, temp, name string, mode uint32, mtime time.Time, b []byte) error {
	fd, err := unix.Openat(dir, temp, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	err = errors.Join(fill(fd, mode, mtime, b), unix.Close(fd))
	if err == nil {
		err = fault.Point("rename an object", func() error { return rename(dir, temp, dir, name) })
	}
	if err != nil {
		return errors.Join(err, unix.Unlinkat(dir, temp, 0))
	}
	return nil
}

// fill writes all of b, and sets the time and the mode, whatever the umask says.
func fill(fd int, mode uint32, mtime time.Time, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		b = b[max(n, 0):]
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&0o7777 != mode { // the umask took something
		if err := unix.Fchmod(fd, mode); err != nil {
			return err
		}
	}
	return setTime(fd, mtime)
}

// SetTime sets a file's time of modification, to the nanosecond if the file system
// keeps that: KeepsTime tells.
//
// System calls: utimensat.
func SetTime(f *os.File, mtime time.Time) error {
	if err := setTime(int(f.Fd()), mtime); err != nil {
		return &os.PathError{Op: "utimensat", Path: f.Name(), Err: err}
	}
	return nil
}

// setTime is futimens, which package unix lacks.
func setTime(fd int, mtime time.Time) error {
	times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(mtime.UnixNano())}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0) // #nosec G103 -- as package unix calls the kernel
	if errno != 0 {
		return errno
	}
	return nil
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

// Move gives the file at path its mode and time of modification, and then the name
// in the folder with the descriptor dir. A file that is there stays. It does not
// sync.
//
// System calls: chmod, utimensat, renameat2 (RENAME_NOREPLACE).
func Move(path string, mode uint32, mtime time.Time, dir int, name string) error {
	return fault.Point("move an object", func() error {
		if err := unix.Chmod(path, mode); err != nil {
			return err
		}
		times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(mtime.UnixNano())}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		return rename(unix.AT_FDCWD, path, dir, name)
	})
}
