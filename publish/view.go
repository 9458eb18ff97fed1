// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// view is what a commit's objects may be in: the staging and the repository.
type view struct {
	staged, repo *ostree.Repo
	repair       bool // detached metadata that is damaged is replaced
}

func openView(cfg Config) (*view, error) {
	staged, err := ostree.OpenRepo(cfg.Staged)
	if err != nil {
		return nil, err
	}
	repo, err := ostree.OpenRepo(cfg.Repo)
	if err != nil {
		return nil, err
	}
	return &view{staged: staged, repo: repo}, nil
}

// errAbsent says that a metadata object is in neither place.
var errAbsent = errors.New("object is neither staged nor in the repository")

// metadata reads a metadata object from where a copy of it is whole: disks and
// libostree may have damaged any. The error is errAbsent if there is none.
func (v *view) metadata(n ostree.Name) ([]byte, error) {
	for _, repo := range []*ostree.Repo{v.staged, v.repo} {
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
