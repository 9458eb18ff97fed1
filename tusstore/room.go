// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"fmt"
	"math"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Room is what is left for uploads, as one token sees it.
type Room struct {
	Bytes  int64 // free for others than root, on the disk that has fewest
	Inodes int64 // the same; math.MaxInt64 where the file system makes them as needed
	Own    int64 // bytes that uploads of the token have claimed, and not sent yet
	Others int64 // those of other tokens' uploads whose bytes are on their way now
}

// Room tells what is left where uploads, staged and published objects lie.
func (s *Store) Room(token string) (Room, error) {
	r := Room{Bytes: math.MaxInt64, Inodes: math.MaxInt64}
	r.Own, r.Others = s.claims.unsent(token, time.Now())
	for _, path := range []string{s.uploads, filepath.Join(s.staged.path, "objects"), filepath.Join(s.cfg.Repo.Path(), "objects")} {
		bytes, inodes, err := Free(path)
		if err != nil {
			return r, err
		}
		r.Bytes, r.Inodes = min(r.Bytes, bytes), min(r.Inodes, inodes)
	}
	return r, nil
}

// Free is what is free for others than root on the file system of a path; inodes are
// math.MaxInt64 where it makes them as needed.
func Free(path string) (bytes, inodes int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, fmt.Errorf("statfs %s: %w", path, err)
	}
	return freeBytes(&st), freeInodes(&st), nil
}

// freeBytes counts in fragments: some file systems name another size as that of
// their blocks, the one that is best to read by.
func freeBytes(st *unix.Statfs_t) int64 {
	unit := st.Frsize
	if unit == 0 {
		unit = st.Bsize
	}
	return int64(st.Bavail) * unit
}

func freeInodes(st *unix.Statfs_t) int64 {
	if st.Files == 0 {
		return math.MaxInt64
	}
	return int64(st.Ffree)
}
