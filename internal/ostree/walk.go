// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// WalkOptions bounds a walk.
type WalkOptions struct {
	// Have are the commits that the other side has completely. The walk of history
	// stops there, and skips what their trees hold.
	Have map[Checksum]bool
	// Depth is how many parents to follow from each commit; -1 follows all, up to
	// a commit in Have or a parent that is not here.
	Depth int
	// Reach are ancestors that the walk of history goes down to, if it can get
	// there, whatever Depth and Have say. The other side wants to see every commit
	// in between, and may lack the parent of a commit that it has.
	Reach map[Checksum]bool
	// Whole has all objects of the commits visited, also what commits in Have hold, and
	// goes down to the first of those, that one included: the other side may have lost
	// something.
	Whole bool
}

// Walk calls visit once for each object that the commits need and the other
// side may lack: the commits of history within Depth, their dirtrees, dirmetas,
// files, and their detached metadata where there is some. What the Have
// commits reach is left out as far as this repository has them. The detached
// metadata of the given commits is visited even if they are in Have, since
// signatures can come later.
//
// A parent that is not here, or not whole, ends the walk of history. Other
// metadata missing or damaged, and a given commit that is partial or deleted, is
// an error that names the commit. Content is named, not looked at. Memory grows
// with the number of objects seen, by about 80 bytes each. Walk stops at visit's
// first error and returns it.
func (r *Repo) Walk(ctx context.Context, commits []Checksum, opt WalkOptions, visit func(Name) error) error {
	w := &walk{repo: r, ctx: ctx, opt: opt}
	for t := range w.seen {
		w.seen[t] = map[Checksum]struct{}{}
	}
	for _, c := range commits {
		if err := r.CheckWhole(c); err != nil {
			return err
		}
	}
	if !opt.Whole && slices.ContainsFunc(commits, func(c Checksum) bool { return !opt.Have[c] }) {
		if err := w.skipHave(); err != nil {
			return err
		}
	}
	w.visit = func(n Name) error {
		w.stopped = visit(n)
		return w.stopped
	}
	for _, c := range commits {
		if err := w.history(c); err != nil {
			return err
		}
	}
	return nil
}

// CheckWhole refuses a commit that the repository does not claim to have whole:
// one that was deleted or is partial. It does not look for the objects.
func (r *Repo) CheckWhole(c Checksum) error {
	dead, err := r.isTombstone(c)
	if err != nil {
		return err
	}
	if dead {
		return fmt.Errorf("commit %s was deleted from repository %s (it has a tombstone)", c, r.where)
	}
	partial, err := r.isPartial(c)
	if err != nil {
		return err
	}
	if partial {
		return fmt.Errorf("commit %s is only partly in repository %s (it is marked commitpartial)", c, r.where)
	}
	return nil
}

// walk is the state of one Walk.
type walk struct {
	repo  *Repo
	ctx   context.Context
	opt   WalkOptions
	visit func(Name) error // nil while only marking what the other side has
	seen  [CommitMeta + 1]map[Checksum]struct{}
	queue []folder // dirtrees to read

	stopped error // what visit returned, to give that back as it is
}

// folder is a dirtree and how many bytes the path has that the walk came by.
type folder struct {
	tree Checksum
	path int
}

// What Linux takes: NAME_MAX, and PATH_MAX without the NUL.
const (
	maxName = 255
	maxPath = 4095
)

// explain names the commit in an error, unless it is the caller's own.
func (w *walk) explain(c Checksum, err error) error {
	if w.stopped != nil {
		return w.stopped
	}
	return fmt.Errorf("commit %s: %w", c, err)
}

// mark reports whether n is new, and remembers it.
func (w *walk) mark(n Name) bool {
	before := len(w.seen[n.Type])
	w.seen[n.Type][n.Checksum] = struct{}{}
	return len(w.seen[n.Type]) > before
}

// skipHave marks all that the other side's commits reach. What is missing or
// damaged here does not matter: the other side has it.
func (w *walk) skipHave() error {
	for c, ok := range w.opt.Have {
		if !ok {
			continue
		}
		commit, err := w.repo.commit(c)
		if err != nil {
			continue
		}
		if err := w.root(commit); err != nil {
			return err
		}
	}
	return nil
}

// history visits a commit and its parents, newest first.
func (w *walk) history(c Checksum) error {
	if err := w.detached(c); err != nil {
		return err
	}
	least, err := w.repo.distance(c, w.opt.Reach)
	if err != nil {
		return err
	}
	for depth := 0; depth < least || !w.opt.Have[c] || w.opt.Whole; depth++ {
		commit, err := w.commit(c)
		if err != nil {
			return w.explain(c, err)
		}
		if w.opt.Whole && w.opt.Have[c] && depth >= least {
			return nil
		}
		if !commit.HasParent || w.opt.Depth >= 0 && depth >= max(w.opt.Depth, least) {
			return nil
		}
		c = commit.Parent
		if _, seen := w.seen[CommitObject][c]; seen && w.opt.Depth < 0 && depth+1 >= least {
			return nil // and so is everything behind it
		}
		if ends, err := w.historyEnds(c); ends || err != nil {
			return err
		}
	}
	return nil
}

// distance is the number of parents from a commit to the nearest ancestor in reach;
// 0 if there is none.
func (r *Repo) distance(c Checksum, reach map[Checksum]bool) (int, error) {
	if len(reach) == 0 {
		return 0, nil
	}
	for depth := 0; ; depth++ {
		if reach[c] {
			return depth, nil
		}
		parent, err := r.Parent(c)
		if err != nil || parent == nil {
			return 0, err
		}
		c = *parent
	}
}

// Parent is a commit's parent; nil if it has none or is not here itself.
func (r *Repo) Parent(c Checksum) (*Checksum, error) {
	commit, err := r.commit(c)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", c, err)
	}
	if !commit.HasParent {
		return nil, nil
	}
	return &commit.Parent, nil
}

// historyEnds reports whether this walk of history stops before a parent: it is
// not here, or not whole.
func (w *walk) historyEnds(parent Checksum) (bool, error) {
	n := Name{parent, CommitObject}
	if has, err := w.repo.Has(n); err != nil || !has {
		return true, err
	}
	dead, err := w.repo.isTombstone(parent)
	if err != nil || dead {
		return true, err
	}
	return w.repo.isPartial(parent)
}

// commit visits one commit and all that its tree needs.
func (w *walk) commit(c Checksum) (*Commit, error) {
	commit, err := w.repo.commit(c)
	if err != nil || !w.mark(Name{c, CommitObject}) {
		return commit, err
	}
	if err := w.visit(Name{c, CommitObject}); err != nil {
		return nil, err
	}
	if err := w.detached(c); err != nil {
		return nil, err
	}
	return commit, w.root(commit)
}

// detached visits a commit's detached metadata, if there is some.
func (w *walk) detached(c Checksum) error {
	n := Name{c, CommitMeta}
	has, err := w.repo.Has(n)
	if err != nil || !has || !w.mark(n) {
		return err
	}
	return w.visit(n)
}

// root walks a commit's tree, depth first. It does not recurse: a tree may be too
// deep for the stack.
func (w *walk) root(c *Commit) error {
	w.queue = w.queue[:0]
	if err := w.object(Name{c.Tree, DirTree}, 0); err != nil {
		return err
	}
	if err := w.object(Name{c.Meta, DirMeta}, 0); err != nil {
		return err
	}
	for len(w.queue) > 0 {
		last := len(w.queue) - 1
		f := w.queue[last]
		w.queue = w.queue[:last]
		if err := w.dirTree(f); err != nil {
			return err
		}
	}
	return nil
}

// object visits one object below a commit, unless it was seen, and queues what
// is to be read further. path is how many bytes the object's path has.
func (w *walk) object(n Name, path int) error {
	if !w.mark(n) {
		return nil
	}
	if w.visit != nil {
		if path > maxPath {
			return &LimitError{Object: n, Reason: fmt.Sprintf("its path has more than %d bytes, and Linux opens no longer one", maxPath)}
		}
		if n.Type == DirMeta {
			if err := w.repo.checkDirMeta(n); err != nil {
				return err
			}
		}
		if err := w.visit(n); err != nil {
			return err
		}
	}
	if n.Type == DirTree {
		w.queue = append(w.queue, folder{n.Checksum, path})
	}
	return nil
}

func (w *walk) dirTree(f folder) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	n := Name{f.tree, DirTree}
	b, err := w.repo.soundMetadata(n)
	if err == nil {
		var t dirTree
		if t, err = parseDirTree(b); err == nil {
			return t.entries(func(name []byte, child Name) error {
				if w.visit != nil && len(name) > maxName {
					return &LimitError{Object: n, Reason: fmt.Sprintf("the name %q in it has %d bytes, and no file system takes more than %d", clip(string(name)), len(name), maxName)}
				}
				return w.object(child, f.path+1+len(name))
			})
		}
		err = unfit(n, err)
	}
	if w.visit == nil {
		return nil
	}
	return err
}

// IsAncestor reports whether old is reachable from new by parents that this
// repository has; a commit is its own ancestor. New itself must be here.
func (r *Repo) IsAncestor(old, new Checksum) (bool, error) {
	if old == new {
		return true, nil
	}
	if _, err := r.commit(new); err != nil {
		return false, fmt.Errorf("commit %s: %w", new, err)
	}
	parents, err := r.distance(new, map[Checksum]bool{old: true})
	return parents > 0, err
}
