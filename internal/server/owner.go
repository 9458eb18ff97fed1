// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/lirios/ostree-upload/internal/hint"
)

// owned is the folder whose owner serves the repository.
func (opt *Options) owned() string {
	if opt.Bucket != nil {
		return opt.State
	}
	return opt.Repo
}

// becomeOwner makes the process run as the owner of the repository: libostree
// links only files of one owner, and what it writes must stay theirs. A
// repository that is still to be made is its maker's. It gets the groups
// of those beside it, too.
func becomeOwner(opt Options) error {
	uid, gid, err := ownerOf(opt.owned())
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
		return notOwner(opt, uid)
	}
	if err := errors.Join(syscall.Setgroups(groupsOf(append(opt.Beside, opt.owned())...)), syscall.Setgid(gid), syscall.Setuid(uid)); err != nil {
		return fmt.Errorf("become user %d: %w", uid, err)
	}
	if err := takeHome(uid); err != nil {
		return err
	}
	opt.Log.Info("running as the owner of the repository", "uid", uid, "gid", gid)
	if opt.Configuration == "" {
		return nil
	}
	// Else a token that is taken away would go on working.
	f, err := os.Open(opt.Configuration)
	if err != nil {
		return hint.Add(fmt.Errorf("user %d, who owns the repository, cannot read the configuration: %w", uid, err),
			"chgrp %d %s && chmod 640 %s", gid, opt.Configuration, opt.Configuration)
	}
	return f.Close()
}

// notOwner says that a repository belongs to somebody else than who runs this.
func notOwner(opt Options, uid int) error {
	what := "repository"
	if opt.Bucket != nil {
		what = "state folder"
	}
	return hint.Add(fmt.Errorf("the %s %s belongs to user %d, and this is user %d", what, opt.owned(), uid, os.Geteuid()),
		"run as user %d, or as root, which becomes that user", uid)
}

// takeHome gives the environment the home and the name of a user, for the programs that
// the server runs. One who is not in the system's list of users has none.
func takeHome(uid int) error {
	home, name := "/", strconv.Itoa(uid)
	if u, err := user.LookupId(name); err == nil {
		home, name = u.HomeDir, u.Username
	}
	return errors.Join(os.Setenv("HOME", home), os.Setenv("USER", name), os.Setenv("LOGNAME", name))
}

// groupsOf are the groups of the repositories' folders, in which the process has to
// be to give them to what it makes.
func groupsOf(repos ...string) (gids []int) {
	for _, repo := range repos {
		for _, name := range []string{"objects", "refs/heads"} {
			if _, gid, err := ownerOf(filepath.Join(repo, name)); err == nil {
				gids = append(gids, gid)
			}
		}
	}
	return gids
}

func ownerOf(path string) (uid, gid int, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	sys := st.Sys().(*syscall.Stat_t)
	return int(sys.Uid), int(sys.Gid), nil
}
