// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/hint"
)

// openState makes the state folder, for its owner alone, and refuses one that
// somebody else may have prepared.
func openState(opt Options) error {
	dir := filepath.Clean(opt.State) // with a slash at its end Lstat would follow a link
	make := durable.MakeFolder
	if repo := filepath.Clean(opt.Repo); strings.HasPrefix(dir, repo+"/") {
		make = func(path string, mode fs.FileMode) error { return durable.MakeFolderIn(repo, path, mode) }
	}
	if err := make(dir, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	sys := st.Sys().(*syscall.Stat_t)
	if !st.IsDir() || int(sys.Uid) != os.Geteuid() {
		return hint.Add(fmt.Errorf("the state folder %s is a symbolic link, no folder, or belongs to user %d", dir, sys.Uid),
			"name a folder of user %d with --state", os.Geteuid())
	}
	if st.Mode().Perm() != 0o700 {
		if err := os.Chmod(dir, 0o700|st.Mode()&fs.ModeSetgid); err != nil {
			return err
		}
	}
	if err := shareGroup(opt); err != nil {
		return err
	}
	repoStat, err := os.Stat(opt.Repo)
	if err == nil && repoStat.Sys().(*syscall.Stat_t).Dev != sys.Dev {
		opt.Log.Warn("the state folder is on another file system than the repository: every object will be copied", "state", dir)
	}
	return err
}
