// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"encoding/json"
	"errors"
	"io/fs"
	"slices"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// mostSigned is how many bytes a request has that brings commits, so that it passes
// wherever one that asks for objects does.
const mostSigned = 64 << 10

// signedCommits are the commits that refs move to, for a server that tells by them, before
// anything is sent, which lack signatures; as many as the request has room for. What is
// damaged is for those who send it.
func (r *run) signedCommits(refs []wire.Ref) (commits []wire.SignedCommit, err error) {
	if !slices.Contains(r.info.Features, wire.FeaturePolicy) {
		return nil, nil
	}
	b, err := json.Marshal(wire.OpenRequest{Refs: refs})
	if err != nil {
		return nil, err
	}
	room := min(r.opt.mostBody(), mostSigned) - len(b)
	seen := make(map[string]bool)
	for _, ref := range refs {
		if ref.New == ref.Old || seen[ref.New] || len(commits) == wire.MaxSigned {
			continue
		}
		seen[ref.New] = true
		c, err := r.signedCommit(ref.New)
		if err != nil {
			return nil, err
		}
		if b, err = json.Marshal(c); err != nil {
			return nil, err
		}
		if fit := ostree.ParseCommitMeta(c.CommitMeta) == nil && len(b)+1 <= room; !fit {
			continue
		}
		room -= len(b) + 1
		commits = append(commits, c)
	}
	return commits, nil
}

func (r *run) signedCommit(checksum string) (c wire.SignedCommit, err error) {
	sum, err := ostree.ParseChecksum(checksum)
	if err != nil {
		return c, err
	}
	if c.Commit, err = r.repo.Metadata(ostree.Name{Checksum: sum, Type: ostree.CommitObject}); err != nil {
		return c, err
	}
	c.CommitMeta, err = r.repo.Metadata(ostree.Name{Checksum: sum, Type: ostree.CommitMeta})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return c, err
}
