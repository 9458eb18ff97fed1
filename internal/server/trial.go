// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// tryRepo tries the ways on which objects come into the repository: what does not
// work is named before bytes come, and not at each publish.
func (s *Server) tryRepo() error {
	tmp, objects := filepath.Join(s.opt.Repo, "tmp"), filepath.Join(s.opt.Repo, "objects")
	if !missing(tmp) { // else libostree makes it
		if err := durable.CanRename(tmp, objects); err != nil {
			return hint.Add(fmt.Errorf("no object can come into the repository: %w", err),
				"objects/ and tmp/ of a repository have to be on one file system, which its owner can write to; move the repository as a whole, and point to it with --repo")
		}
	}
	if s.repo.Mode() != ostree.ModeArchive {
		return nil // all is copied
	}
	err := durable.CanLink(s.Store.StagedPath(), objects)
	switch {
	case err == nil, errors.Is(err, unix.EXDEV), errors.Is(err, unix.EPERM), errors.Is(err, unix.EMLINK):
		return nil // libostree copies what cannot be linked for these reasons
	}
	return hint.Add(fmt.Errorf("no staged object can come into the repository: %w", err),
		"the file system has no hard links; name a state folder on another one with --state, and objects are copied")
}
