// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"errors"
	"io/fs"
)

// History lists a commit and up to n of the commits before it, from child to parent, as
// far as the repository has their commit objects.
func (r *Repo) History(c Checksum, n int) (line []Checksum, err error) {
	for range n + 1 {
		commit, err := r.commit(c)
		if errors.Is(err, fs.ErrNotExist) {
			return line, nil
		}
		if err != nil {
			return line, err
		}
		line = append(line, c)
		if !commit.HasParent {
			break
		}
		c = commit.Parent
	}
	return line, nil
}

// IsWhole tells whether a commit is there and not marked as incomplete. It does not look
// for what the commit names.
func (r *Repo) IsWhole(c Checksum) (bool, error) {
	there, err := r.Has(Name{c, CommitObject})
	if err != nil || !there {
		return false, err
	}
	partial, err := r.isPartial(c)
	return !partial, err
}
