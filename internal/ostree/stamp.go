// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A stamp tells whether a file or a folder is what it was: any change gives it another time
// of change, which nobody can set.
type stamp struct {
	dev, ino uint64
	changed  unix.Timespec
}

// stampOf returns the stamp of what is at a path below an open folder.
func stampOf(folder int, path string) (stamp, error) {
	var st unix.Stat_t
	for {
		switch err := unix.Fstatat(folder, path, &st, 0); err {
		case nil:
			return stamp{uint64(st.Dev), st.Ino, st.Ctim}, nil
		case unix.EINTR: // on file systems of a network
		default:
			return stamp{}, &fs.PathError{Op: "stat", Path: path, Err: err}
		}
	}
}

// settleTime is more than what lies between two changes whose times are the same: up to 10
// ms by the kernel's clock, and a second on file systems that count in seconds.
const settleTime = 2 * time.Second

// settled tells whether a change after this moment shows in the stamp.
func (s stamp) settled(moment time.Time) bool {
	return time.Unix(s.changed.Unix()).Before(moment.Add(-settleTime))
}

// zfsMagic is the type of ZFS in statfs(2), of which golang.org/x/sys has no name.
const zfsMagic = 0x2fc12fc1

// deviceOf is the device of an open folder if stamps can be relied on there, else 0. They
// cannot where another machine may change the files: NFS goes on giving the old times for
// up to a minute.
func deviceOf(folder *os.File) uint64 {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(folder.Fd()), &st); err != nil {
		return 0
	}
	if !slices.Contains([]int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC,
		unix.TMPFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC, zfsMagic}, int64(st.Type)) {
		return 0
	}
	is, _ := stampOf(int(folder.Fd()), ".") // 0 if it is not there any more
	return is.dev
}
