// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/wire"
)

// becomeOwner makes the process run as the owner of the repository: libostree
// links only files of one owner, and what it writes must stay theirs. A
// repository that is still to be made is its maker's. The owner has to be able to
// read the configuration, unless it is "".
func becomeOwner(repo, configuration string, log *slog.Logger) error {
	uid, gid, err := ownerOf(repo)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	me := os.Geteuid()
	switch {
	case me == uid:
		return nil
	case me != 0:
		return wire.Errorf(wire.Policy, "the repository %s belongs to user %d, and this is user %d", repo, uid, me).
			WithHint("run as user %d, or as root, which becomes that user", uid)
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(gid), syscall.Setuid(uid)); err != nil {
		return fmt.Errorf("become user %d: %w", uid, err)
	}
	log.Info("running as the owner of the repository", "uid", uid, "gid", gid)
	if configuration == "" {
		return nil
	}
	// Else a token that is taken away would go on working.
	f, err := os.Open(configuration)
	if err != nil {
		return wire.Errorf(wire.Policy, "user %d, who owns the repository, cannot read the configuration %s", uid, configuration).
			WithHint("chgrp %d %s && chmod 640 %s", gid, configuration, configuration)
	}
	return f.Close()
}

func ownerOf(path string) (uid, gid int, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	sys := st.Sys().(*syscall.Stat_t)
	return int(sys.Uid), int(sys.Gid), nil
}

// openState makes the state folder, for its owner alone, and refuses one that
// somebody else may have prepared.
func openState(dir, repo string, log *slog.Logger) error {
	dir = filepath.Clean(dir) // with a slash at its end Lstat would follow a link
	if err := durable.MakeFolder(dir, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	sys := st.Sys().(*syscall.Stat_t)
	if !st.IsDir() || int(sys.Uid) != os.Geteuid() {
		return wire.Errorf(wire.Policy, "the state folder %s is a symbolic link, no folder, or belongs to user %d", dir, sys.Uid).
			WithHint("name a folder of user %d with --state", os.Geteuid())
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	repoStat, err := os.Stat(repo)
	if err == nil && repoStat.Sys().(*syscall.Stat_t).Dev != sys.Dev {
		log.Warn("the state folder is on another file system than the repository: every object will be copied", "state", dir)
	}
	return err
}
