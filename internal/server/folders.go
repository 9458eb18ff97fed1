// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/hint"
)

// takeUmask lets what the process makes in the repository look like what is there:
// others may work in it, too. For a repository that is still to be made, the umask
// of whoever starts the process holds, as for `ostree init`. What must be secret has
// its own mode. Of several repositories, what all of them allow.
func takeUmask(repos ...string) {
	open := fs.FileMode(0o777)
	for _, repo := range repos {
		if info, err := os.Stat(filepath.Join(repo, "objects")); err == nil { // else OpenRepo says it better
			open &= info.Mode().Perm()
		}
	}
	if open != 0o777 {
		unix.Umask(int(^open & 0o077))
	}
}

// folders are those that libostree makes in each repository. A backup or git may
// leave the empty ones out; without some of them libostree fails.
var folders = []string{"refs/heads", "refs/mirrors", "refs/remotes", "state", "tmp", "extensions"}

// makeFolders makes the folders that the repository lacks.
func makeFolders(opt Options) error {
	lacking, err := lackingFolders(opt.Repo)
	if err != nil {
		return err
	}
	for _, name := range lacking {
		if err := durable.MakeFolderIn(opt.Repo, filepath.Join(opt.Repo, name), 0o777); err != nil {
			return hint.Add(fmt.Errorf("the repository %s has no folder %s, and it cannot be made: %w", opt.Repo, name, err),
				"make it, for user %d to write in", os.Geteuid())
		}
		opt.Log.Warn("made a folder that the repository lacked", "folder", name)
	}
	return nil
}

func lackingFolders(repo string) (names []string, err error) {
	for _, name := range folders {
		switch _, err := os.Stat(filepath.Join(repo, name)); {
		case errors.Is(err, fs.ErrNotExist):
			names = append(names, name)
		case err != nil:
			return nil, err
		}
	}
	return names, nil
}

// shareLock makes libostree's lock file, or sees that this process can use the one
// that is there, and opens it to those who may write objects: one that was made
// under another umask keeps them from every command.
func shareLock(repo string) error {
	objects, err := os.Stat(filepath.Join(repo, "objects"))
	if err != nil {
		return err
	}
	path := filepath.Join(repo, ".lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o660)
	if errors.Is(err, fs.ErrPermission) {
		return hint.Add(fmt.Errorf("user %d cannot use the repository's lock, so nothing could be published: %w", os.Geteuid(), err),
			"another user's command made it: chown %d %s", os.Geteuid(), path)
	}
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // nothing is written to it
	lock, err := f.Stat()
	if err != nil {
		return err
	}
	mode := lock.Mode().Perm() | objects.Mode().Perm()&0o060
	if owner := int(lock.Sys().(*syscall.Stat_t).Uid); owner != os.Geteuid() || mode == lock.Mode().Perm() {
		return nil
	}
	return f.Chmod(mode)
}

// shareGroup gives the state folder, and what is in it, the group that objects get
// in the repository, by the set-group-ID bit of their folder: what is staged is
// linked there, and all links of a file have one group.
func shareGroup(opt Options) error {
	objects, err := os.Stat(filepath.Join(opt.Repo, "objects"))
	if err != nil || objects.Mode()&fs.ModeSetgid == 0 {
		return err
	}
	gid := int(objects.Sys().(*syscall.Stat_t).Gid)
	if ok, err := hasGroup(opt.State, gid); ok || err != nil {
		return err
	}
	// The folder itself last: after a kill it tells that the rest is still to do.
	err = filepath.WalkDir(opt.State, func(path string, f fs.DirEntry, err error) error {
		if err != nil || path == opt.State {
			return err
		}
		return giveGroup(path, f.IsDir(), gid)
	})
	if err == nil {
		err = giveGroup(opt.State, true, gid)
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("give the state folder the group of the repository: %w", err)
	}
	ok, statErr := hasGroup(opt.State, gid)
	if !ok && statErr == nil {
		opt.Log.Warn("objects will not have the group that the repository's folders give them: this user is not in it", "group", gid, "err", err)
	}
	return statErr
}

// hasGroup tells whether what is made in a folder gets a group.
func hasGroup(folder string, gid int) (bool, error) {
	info, err := os.Stat(folder)
	if err != nil {
		return false, err
	}
	return info.Mode()&fs.ModeSetgid != 0 && int(info.Sys().(*syscall.Stat_t).Gid) == gid, nil
}

func giveGroup(path string, folder bool, gid int) error {
	if err := os.Lchown(path, -1, gid); err != nil || !folder {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Chmod(path, info.Mode().Perm()|fs.ModeSetgid)
}
