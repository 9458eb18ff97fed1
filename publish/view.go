// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/journal"
)

// view is what a commit's objects may be in: the staging and the repository.
type view struct {
	staged *ostree.Repo // nil: what is staged does not count
	repo   *ostree.Repo
}

// openView opens what counts for a session. One that brings nothing is for commits that
// are in the repository: what others have staged is not published yet, and may never be.
func openView(cfg Config, s *journal.Session) (*view, error) {
	repo, err := ostree.OpenRepo(cfg.Repo)
	if err != nil || s.Promote {
		return &view{repo: repo}, err
	}
	staged, err := ostree.OpenRepo(cfg.Staged)
	return &view{staged: staged, repo: repo}, err
}

// errAbsent says that a metadata object is in neither place.
var errAbsent = errors.New("object is neither staged nor in the repository")

// metadata reads a metadata object from where a copy of it is whole: disks and
// libostree may have damaged any. The error is errAbsent if there is none.
func (v *view) metadata(n ostree.Name) ([]byte, error) {
	for _, repo := range []*ostree.Repo{v.staged, v.repo} {
		if repo == nil {
			continue
		}
		b, err := repo.Metadata(n)
		if err == nil && damaged(n, b) == "" {
			return b, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s: %w", n, errAbsent)
}

// commit reads a commit object; the error is errAbsent if there is none.
func (v *view) commit(c ostree.Checksum) (*ostree.Commit, error) {
	n := ostree.Name{Checksum: c, Type: ostree.CommitObject}
	b, err := v.metadata(n)
	if err != nil {
		return nil, err
	}
	commit, err := ostree.ParseCommit(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n, err)
	}
	return commit, nil
}

// ref is the commit that a ref of the repository names, or "".
func (v *view) ref(name string) (string, error) {
	c, err := v.repo.Ref(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return c.String(), nil
}
