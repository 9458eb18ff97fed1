// SPDX-License-Identifier: AGPL-3.0-or-later

package prune

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// list notes all objects that are here, before anybody asks who needs them: what
// comes later is not in rest, and so stays.
func (r *run) list(ctx context.Context) error {
	for i := range r.listed {
		if err := ctx.Err(); err != nil {
			return err
		}
		names, err := r.listFolder(byte(i))
		if err != nil {
			return err
		}
		for _, n := range names {
			if n.Type == ostree.CommitObject {
				r.here[n.Checksum] = true
			} else {
				r.rest[n] = struct{}{}
			}
		}
	}
	return nil
}

// settled is how old the last change of a folder has to be for the next one to be
// seen by its time: some file systems count in seconds.
const settled = 2 * time.Second

// listFolder lists a folder, and notes as of when. One that was changed a moment ago
// counts as changed the next time.
func (r *run) listFolder(i byte) ([]ostree.Name, error) {
	changed, err := r.changed(i)
	if err != nil {
		return nil, err
	}
	r.listed[i] = time.Time{}
	if time.Since(changed) > settled {
		r.listed[i] = changed
	}
	return r.repo.Listed(i)
}

// changed is when a folder of objects was last changed; the zero time if there is none.
func (r *run) changed(i byte) (time.Time, error) {
	info, err := os.Stat(r.repo.ObjectFolder(i))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// newCommits notes those that came since the last listing, and tells whether there are
// any.
func (r *run) newCommits() (fresh bool, err error) {
	for i := range r.listed {
		changed, err := r.changed(byte(i))
		if err != nil {
			return false, err
		}
		if changed.Equal(r.listed[i]) && !changed.IsZero() {
			continue
		}
		names, err := r.listFolder(byte(i))
		if err != nil {
			return false, err
		}
		for _, n := range names {
			if n.Type == ostree.CommitObject && !r.here[n.Checksum] {
				r.here[n.Checksum], fresh = true, true
			}
		}
	}
	return fresh, nil
}

func (r *run) readCommit(c ostree.Checksum) (*ostree.Commit, error) {
	n := ostree.Name{Checksum: c, Type: ostree.CommitObject}
	b, err := r.metadata(n)
	if err != nil {
		return nil, err
	}
	commit, err := ostree.ParseCommit(b)
	if err != nil {
		return nil, &ostree.BadObjectError{Object: n, Reason: err.Error()}
	}
	return commit, nil
}

// metadata reads a metadata object, which has to be what its name says: else nobody
// could tell what it needs.
func (r *run) metadata(n ostree.Name) ([]byte, error) {
	b, err := r.repo.Metadata(n)
	if err == nil && sha256.Sum256(b) != n.Checksum {
		err = &ostree.BadObjectError{Object: n, Reason: "it does not match its checksum"}
	}
	return b, err
}

// damaged adds what to do about a commit that stays and is not whole.
func damaged(err error) error {
	return hint.Add(err, "nothing is removed before this is repaired, since nobody can tell what it needs: ostree-upload check --content tells what is damaged, and push --repair mends it")
}

// walkStaying takes what the commits that stay need out of the rest.
func (r *run) walkStaying(ctx context.Context) error {
	for c := range r.stay {
		if err := r.walk(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// walkLeft does so for all commits that are here by now, whatever keeps them.
func (r *run) walkLeft(ctx context.Context) error {
	for c := range r.here {
		if _, seen := r.walked[c]; seen {
			continue
		}
		if err := r.walk(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// walk takes what one commit needs out of the rest. One that is not here needs
// nothing, and one that is marked as incomplete may lack something.
func (r *run) walk(ctx context.Context, c ostree.Checksum) error {
	if !r.here[c] {
		return nil
	}
	partial := r.repo.CheckWhole(c) != nil
	todo := []ostree.Name{{Checksum: c, Type: ostree.CommitObject}}
	for len(todo) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		last := len(todo) - 1
		n := todo[last]
		todo = todo[:last]
		children, err := r.take(n)
		if partial && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return damaged(fmt.Errorf("commit %s, which %s: %w", c, r.why(c), err))
		}
		todo = append(todo, children...)
	}
	return nil
}

// take takes an object out of the rest, and tells what it needs unless that was seen
// before.
func (r *run) take(n ostree.Name) (children []ostree.Name, err error) {
	delete(r.rest, n)
	if n.Type != ostree.CommitObject && n.Type != ostree.DirTree {
		return nil, nil
	}
	if _, seen := r.walked[n.Checksum]; seen {
		return nil, nil
	}
	b, err := r.metadata(n)
	if err != nil {
		return nil, err
	}
	err = ostree.Children(n, b, func(child ostree.Name) error {
		children = append(children, child)
		return nil
	})
	if err == nil {
		r.walked[n.Checksum] = struct{}{}
	}
	return children, err
}

// why is why a commit stays, in words.
func (r *run) why(c ostree.Checksum) string {
	if who := r.stay[c]; who != "" {
		return who + " keeps"
	}
	return "came just now"
}
