// SPDX-License-Identifier: AGPL-3.0-or-later

package fsck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

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
	names, err := c.repo.ListedRefs()
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		commit, err := c.repo.OwnRef(n)
		switch {
		case errors.Is(err, fs.ErrNotExist): // deleted meanwhile, or an alias of no ref
		case err != nil:
			c.unread = append(c.unread, fmt.Sprintf("%v; write it again: %s", err, c.store.Rewrite(n.Name)))
		default:
			heads = append(heads, place{ref: n.Name, head: commit, commit: commit})
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
	if sound, err := c.sound(at, n); !sound || err != nil {
		c.hidden = true
		return nil, err
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
	if _, err := c.sound(at, ostree.Name{Checksum: commit.Meta, Type: ostree.DirMeta}); err != nil {
		return nil, err
	}
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
func (c *Check) sound(at place, n ostree.Name) (is bool, err error) {
	if c.bad[n] != "" {
		c.add(at, n, c.bad[n])
		return false, nil
	}
	there, err := c.repo.Has(n)
	if err == nil && !there {
		c.add(at, n, missing)
	}
	return there, err
}

// look notes what is wrong with an object that need not be there.
func (c *Check) look(at place, n ostree.Name) {
	if c.bad[n] != "" {
		c.add(at, n, c.bad[n])
	}
}

func (c *Check) add(at place, n ostree.Name, wrong string) {
	c.mu.Lock()
	defer c.mu.Unlock()
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
	first := len(c.faults)
	w := treeWalk{Check: c}
	w.group, w.ctx = errgroup.WithContext(ctx)
	w.group.SetLimit(max(1, c.store.Requests()))
	w.group.Go(func() error { return w.from(folder{in: &at, tree: root}) })
	err := w.group.Wait()
	// Whichever reader came first.
	slices.SortStableFunc(c.faults[first:], func(a, b fault) int { return strings.Compare(a.path, b.path) })
	return err
}

// A treeWalk walks one tree, by as many readers as the store answers at a time.
type treeWalk struct {
	*Check
	ctx   context.Context
	group *errgroup.Group
}

// A folder is one that the walk comes to. Those of one parent share its path.
type folder struct {
	in   *place
	name string
	tree ostree.Checksum
}

// below is the place of an entry of the folder here, or of the root for "".
func (p *place) below(name string) place {
	in := *p
	in.path = strings.TrimSuffix(p.path, "/") + "/" + name
	return in
}

// from walks a folder and those below it, unless that was done. It does not recurse: a
// tree may be too deep for the stack.
func (w *treeWalk) from(f folder) error {
	for todo := []folder{f}; len(todo) > 0; {
		last := len(todo) - 1
		f, todo = todo[last], todo[:last]
		if w.walked(f.tree) {
			continue
		}
		below, err := w.entries(f.in.below(f.name), f.tree)
		if err != nil {
			return err
		}
		slices.Reverse(below) // the first is read next
		todo = w.share(append(todo, below...))
	}
	return nil
}

// share gives folders to readers that have nothing to do, and returns what is left for this
// one.
func (w *treeWalk) share(todo []folder) []folder {
	for len(todo) > 1 {
		first := todo[0]
		if !w.group.TryGo(func() error { return w.from(first) }) {
			break
		}
		todo = todo[1:]
	}
	return todo
}

// walked tells whether a folder was seen, which it is from now on.
func (c *Check) walked(tree ostree.Checksum) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, seen := c.seen[tree]
	c.seen[tree] = struct{}{}
	return seen
}

// entries looks at what a folder holds, if it can be read, and returns the folders in it.
func (w *treeWalk) entries(at place, tree ostree.Checksum) (below []folder, err error) {
	if err := w.ctx.Err(); err != nil {
		return nil, err
	}
	n := ostree.Name{Checksum: tree, Type: ostree.DirTree}
	if sound, err := w.sound(at, n); !sound || err != nil {
		w.hide()
		return nil, err
	}
	b, err := w.repo.Metadata(n)
	if err != nil {
		return nil, absent(err)
	}
	var failed error
	_ = ostree.Entries(n, b, func(name []byte, child ostree.Name) error { // what was verified has the right form
		if child.Type == ostree.DirTree {
			below = append(below, folder{&at, string(name), child.Checksum})
			return nil
		}
		_, failed = w.sound(at.below(string(name)), child)
		return failed
	})
	return below, failed
}

// hide notes that there are trees that cannot be read.
func (c *Check) hide() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hidden = true
}
