// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// Entrust sees that the server can read the file at path: it runs as the owner of the
// repository that the file names (of the first that is there, if it names several) or,
// as long as there is none, as the owner of the folder of the file, presumably. If root has just made the file, it becomes theirs.
// What cannot be done is told as a warning, which begins with who cannot read it.
func Entrust(path string, made bool) (warning string, err error) {
	c, err := Load(path)
	if err != nil {
		return "", err
	}
	of := filepath.Dir(path)
	for _, r := range slices.Backward(c.Served()) {
		if _, _, err := ownerOf(r.Repo); err == nil {
			of = r.Repo
		}
	}
	uid, gid, err := ownerOf(of)
	if err != nil {
		return "", fmt.Errorf("look for who is to read the configuration: %w", err)
	}
	flags := os.O_RDONLY
	if made { // no link then, unless somebody has just put one there
		flags |= syscall.O_NOFOLLOW
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return "", fmt.Errorf("open the configuration: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	sys := st.Sys().(*syscall.Stat_t)
	// In a folder of another user the name may be another file's by now.
	if made && os.Geteuid() == 0 && st.Mode().IsRegular() && sys.Uid == 0 && sys.Nlink == 1 {
		if err := f.Chown(uid, gid); err != nil {
			return "", fmt.Errorf("give the configuration to user %d: %w", uid, err)
		}
		return "", nil
	}
	if canRead(st.Mode(), sys, uid, gid) {
		return "", nil
	}
	return fmt.Sprintf("user %d, who owns %s, cannot read %s; if the server runs as that user: chgrp %d %s && chmod 640 %s",
		uid, of, path, gid, path, path), nil
}

// canRead tells whether a user can read a file, by the groups that are known here.
func canRead(mode os.FileMode, st *syscall.Stat_t, uid, gid int) bool {
	switch {
	case uid == 0:
		return true
	case int(st.Uid) == uid:
		return mode&0o400 != 0
	case int(st.Gid) == gid:
		return mode&0o040 != 0
	}
	return mode&0o004 != 0
}

func ownerOf(path string) (uid, gid int, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	sys := st.Sys().(*syscall.Stat_t)
	return int(sys.Uid), int(sys.Gid), nil
}
