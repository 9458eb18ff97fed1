// SPDX-License-Identifier: AGPL-3.0-or-later

package fsck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// walk is what the walk from the refs remembers.
type walk struct {
	seen   map[ostree.Checksum]struct{} // commits and trees
	placed map[ostree.Name]bool         // objects with a fault
	faults []fault
	unread []string // what else is wrong, in words
	notes  []string
	hidden bool // there are trees that cannot be read
}

func newWalk() walk {
	return walk{seen: make(map[ostree.Checksum]struct{}), placed: make(map[ostree.Name]bool)}
}

// A fault is an object that a ref needs and that is damaged, or not there.
type fault struct {
	place
	object ostree.Name
	wrong  string
}

// A place is where the walk is.
type place struct {
	ref    string
	head   ostree.Checksum // what the ref named
	commit ostree.Checksum
	path   string // "" for the commit itself
}

func (p place) String() string {
	s := fmt.Sprintf("ref %s, commit %s", p.ref, p.commit)
	if p.path != "" {
		s += ", " + p.path
	}
	return s
}

const missing = "it is missing"

// refs walks what all refs need: first what they name, then older commits.
func (c *Check) refs(ctx context.Context) error {
	heads, err := c.heads()
	if err != nil {
		return err
	}
	var older []place
	for _, p := range heads {
		parent, err := c.commit(ctx, p, true)
		if err != nil {
			return err
		}
		if parent != nil {
			older = append(older, *parent)
		}
	}
	for _, p := range older {
		for at := &p; at != nil; {
			if at, err = c.commit(ctx, *at, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// heads are what the refs name, in the order of their names. A ref that cannot be read
// is a finding.
func (c *Check) heads() (heads []place, err error) {
	names, err := c.repo.RefNames()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		commit, err := c.repo.Ref(name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // deleted meanwhile
		case err != nil:
			c.unread = append(c.unread, fmt.Sprintf("%v; write it again: echo COMMIT > %s", err, filepath.Join(c.repo.Path(), "refs/heads", name)))
		default:
			heads = append(heads, place{ref: name, head: commit, commit: commit})
		}
	}
	pulled, err := c.repo.PulledRefs()
	for _, p := range pulled {
		heads = append(heads, place{ref: p.String(), head: p.Commit, commit: p.Commit})
	}
	return heads, err
}

// commit walks one commit, unless that was done, and gives its parent. That a parent is
// not there is no fault: it may have been pruned, or never been pushed.
func (c *Check) commit(ctx context.Context, at place, head bool) (parent *place, err error) {
	if _, seen := c.seen[at.commit]; seen {
		return nil, nil
	}
	c.seen[at.commit] = struct{}{}
	n := ostree.Name{Checksum: at.commit, Type: ostree.CommitObject}
	there, err := c.repo.Has(n)
	if err != nil || !there && !head && c.bad[n] == "" {
		return nil, err
	}
	if !c.sound(at, n) {
		c.hidden = true
		return nil, nil
	}
	c.look(at, ostree.Name{Checksum: at.commit, Type: ostree.CommitMeta})
	b, err := c.repo.Metadata(n)
	if err != nil {
		return nil, absent(err)
	}
	commit, err := ostree.ParseCommit(b)
	if err != nil {
		return nil, nil // it was damaged after it was verified
	}
	if commit.HasParent {
		parent = &place{ref: at.ref, head: at.head, commit: commit.Parent}
	}
	if incomplete := c.repo.CheckWhole(at.commit); incomplete != nil {
		c.incomplete(at, head, incomplete)
		return parent, nil
	}
	at.path = "/"
	c.sound(at, ostree.Name{Checksum: commit.Meta, Type: ostree.DirMeta})
	return parent, c.tree(ctx, at, commit.Tree)
}

// incomplete notes a commit that its mark says is not whole, so that nothing is to be
// expected of it; which is a fault of a ref that names it.
func (c *Check) incomplete(at place, head bool, why error) {
	text := fmt.Sprintf("ref %s: %v", at.ref, why)
	if head {
		c.unread = append(c.unread, text)
		return
	}
	c.notes = append(c.notes, text)
}

// absent leaves out the error of an object that is gone.
func absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// sound notes what is wrong with an object that is needed.
func (c *Check) sound(at place, n ostree.Name) bool {
	if c.bad[n] != "" {
		c.add(at, n, c.bad[n])
		return false
	}
	if there, err := c.repo.Has(n); err == nil && there {
		return true
	}
	c.add(at, n, missing)
	return false
}

// look notes what is wrong with an object that need not be there.
func (c *Check) look(at place, n ostree.Name) {
	if c.bad[n] != "" {
		c.add(at, n, c.bad[n])
	}
}

func (c *Check) add(at place, n ostree.Name, wrong string) {
	if c.placed[n] {
		return
	}
	if len(c.faults) >= maxFound {
		c.hidden = true
		c.more++
		return
	}
	c.placed[n] = true
	c.faults = append(c.faults, fault{place: at, object: n, wrong: wrong})
}

// tree walks the tree at a place, each folder once.
func (c *Check) tree(ctx context.Context, at place, root ostree.Checksum) error {
	type folder struct {
		tree ostree.Checksum
		path string
	}
	for todo := []folder{{root, ""}}; len(todo) > 0; {
		f := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, seen := c.seen[f.tree]; seen {
			continue
		}
		c.seen[f.tree] = struct{}{}
		at.path = cmp.Or(f.path, "/")
		err := c.entries(ctx, at, f.tree, func(name []byte, n ostree.Name) {
			below := at
			below.path = f.path + "/" + string(name)
			if n.Type == ostree.DirTree {
				todo = append(todo, folder{n.Checksum, below.path})
			} else {
				c.sound(below, n)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// entries visits what a folder holds, if it can be read.
func (c *Check) entries(ctx context.Context, at place, tree ostree.Checksum, visit func(name []byte, n ostree.Name)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n := ostree.Name{Checksum: tree, Type: ostree.DirTree}
	if !c.sound(at, n) {
		c.hidden = true
		return nil
	}
	b, err := c.repo.Metadata(n)
	if err != nil {
		return absent(err)
	}
	_ = ostree.Entries(n, b, func(name []byte, child ostree.Name) error { // what was verified has the right form
		visit(name, child)
		return nil
	})
	return nil
}
