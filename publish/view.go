// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// view is what a commit's objects may be in: the staging and the repository.
type view struct {
	staged *ostree.Repo // nil: what is staged does not count
	repo   *ostree.Repo
	repair bool                                               // detached metadata that is damaged is replaced
	passed func(s *journal.Session, r wire.Ref) (bool, error) // production.passed
}

// openView opens what counts for a session. One that brings nothing is for commits that
// are in the repository: what others have staged is not published yet, and may never be.
func (p *Publisher) openView(s *journal.Session) (*view, error) {
	if s.Promote {
		repo, err := p.production.readAll()
		return &view{repo: repo, passed: p.production.passed}, err
	}
	repo, err := p.production.read()
	if err != nil {
		return nil, err
	}
	staged, err := ostree.OpenRepo(p.cfg.Staged)
	return &view{staged: staged, repo: repo, repair: s.Repair, passed: p.production.passed}, err
}

// hasStaged tells whether a staged object counts and is there.
func (v *view) hasStaged(n ostree.Name) (bool, error) {
	if v.staged == nil {
		return false, nil
	}
	return v.staged.Has(n)
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

// merged is a commit's detached metadata with what a session brought; changed
// tells whether that adds anything. The error is an *Outcome if they do not go
// together, as when the result would be too large. A repair replaces what is damaged.
func (v *view) merged(c ostree.Checksum, sent []byte) (meta []byte, changed bool, err error) {
	old, err := v.repo.Metadata(ostree.Name{Checksum: c, Type: ostree.CommitMeta})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	good := old
	if v.repair && ostree.ParseCommitMeta(old) != nil {
		good = nil
	}
	meta, err = ostree.MergeCommitMeta(good, sent)
	if err != nil {
		return nil, false, outcomef(wire.Policy, "commit %s: %v", c, err)
	}
	return meta, !bytes.Equal(meta, old), nil
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
