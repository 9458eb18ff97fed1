// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// plan is what a session will publish.
type plan struct {
	session *journal.Session
	lineage lineage
	commits []ostree.Checksum        // each whole: the refs' new commits and those sent between old and new; those named, in a repair
	whole   map[ostree.Checksum]bool // those of commits
	path    []ostree.Checksum        // all from new to old, also those that were there
	sent    map[ostree.Checksum]bool // whether the session brought a commit of path
}

// complete notes that a commit has to be whole.
func (pl *plan) complete(c ostree.Checksum) {
	if !pl.whole[c] {
		pl.whole[c] = true
		pl.commits = append(pl.commits, c)
	}
}

// brought names the refs whose commits the session brought, as far as its record
// keeps refs.
func (pl *plan) brought() (refs []string) {
	for _, r := range pl.session.Refs[:min(len(pl.session.Refs), journal.FewRefs)] {
		if c, err := ostree.ParseChecksum(r.New); err == nil && pl.sent[c] {
			refs = append(refs, r.Ref)
		}
	}
	return refs
}

// verify checks everything that needs no lock: the refs, the commits' bindings
// and their history. The error is an *Outcome if the session is refused.
func (p *Publisher) verify(ctx context.Context, v *view, s *journal.Session) (*plan, error) {
	if err := checkRefs(v, s); err != nil {
		return nil, err
	}
	pl := &plan{
		session: s, lineage: lineage{make(map[ostree.Checksum]*node)},
		whole: make(map[ostree.Checksum]bool), sent: make(map[ostree.Checksum]bool),
	}
	for _, r := range s.Refs {
		if err := checkMoved(v, s, r); err != nil {
			return nil, err
		}
		if r.New == "" {
			continue
		}
		if err := p.history(ctx, v, pl, r); err != nil {
			return nil, err
		}
	}
	return pl, nil
}

// checkRefs refuses names that cannot be written beside those that exist.
func checkRefs(v *view, s *journal.Session) error {
	existing, err := v.repo.Refs()
	if err != nil {
		return err
	}
	for _, r := range s.Refs {
		if err := ostree.ValidateRef(r.Ref); err != nil {
			return outcomef(wire.Policy, "%v", err)
		}
		existing[r.Ref] = ostree.Checksum{}
	}
	for name, deleted := range s.Moved() {
		if deleted {
			delete(existing, name)
		}
	}
	if a, b, found := ostree.ConflictingRef(slices.Collect(maps.Keys(existing))); found {
		return outcomef(wire.RefConflict, "ref %s cannot be beside ref %s: one is a folder of the other", a, b)
	}
	return checkNeeded(v, s)
}

// checkNeeded refuses to delete a ref that an alias stands for, or that would then be the
// one of that name in the parent of the repository.
func checkNeeded(v *view, s *journal.Session) error {
	var targets map[string]string
	for name, deleted := range s.Moved() {
		if !deleted {
			continue
		}
		if targets == nil {
			var err error
			if targets, err = v.repo.Targets(); err != nil {
				return err
			}
		}
		if alias, has := targets[name]; has {
			return outcomef(wire.Policy, "ref %s cannot be deleted: %s is an alias of it", name, alias)
		}
		if v.repo.InParent(name) {
			return outcomef(wire.Policy, "ref %s cannot be deleted: it is also one of the repository's parent, and would be that then", name)
		}
	}
	return nil
}

// checkMoved refuses a ref that someone else moved, or made an alias. While
// publishing, a ref may have been moved by this session itself.
func checkMoved(v *view, s *journal.Session, r wire.Ref) error {
	if err := checkAlias(v, r.Ref); err != nil {
		return err
	}
	is, err := v.ref(r.Ref)
	if err != nil || is == r.Old {
		return err
	}
	if moved, err := v.moved(s, r, is); moved || err != nil {
		return err
	}
	return refMoved(r, is)
}

// moved tells whether a session that is publishing has moved a ref, which is at a commit.
func (v *view) moved(s *journal.Session, r wire.Ref, is string) (bool, error) {
	if s.State != journal.Publishing || is == r.New {
		return s.State == journal.Publishing, nil
	}
	return v.passed(s, r)
}

func refMoved(r wire.Ref, is string) *Outcome {
	return outcomef(wire.RefMoved, "ref %s is at %s, this push expected %s", r.Ref, orNone(is), orNone(r.Old))
}

// checkAlias refuses an alias: to write it would make it a ref of its own.
func checkAlias(v *view, ref string) error {
	target, is, err := v.repo.Alias(ref)
	if err != nil || !is {
		return err
	}
	return outcomef(wire.Policy, "ref %s is an alias of %s in the repository", ref, target)
}

func orNone(commit string) string {
	if commit == "" {
		return "no commit"
	}
	return commit
}

// anyRefMoved tells whether a ref of the session is no longer at its old commit.
func (p *Publisher) anyRefMoved(s *journal.Session) (bool, error) {
	v, err := p.openView(s)
	if err != nil {
		return false, err
	}
	for _, r := range s.Refs {
		is, err := v.ref(r.Ref)
		if err != nil || is != r.Old {
			return true, err
		}
	}
	return false, nil
}

// history adds to the plan the commits that a ref's move brings: the new one,
// and its ancestors down to the old one as far as this session has sent them.
// It refuses a move that is no fast-forward, unless the session may force it.
func (p *Publisher) history(ctx context.Context, v *view, pl *plan, r wire.Ref) error {
	sum, err := ostree.ParseChecksum(r.New)
	if err != nil {
		return err
	}
	n, err := p.read(v, pl, sum, nil)
	if errors.Is(err, errAbsent) {
		return p.absent(pl, sum, "ref %s: commit %s is missing or bad", r.Ref, sum)
	}
	if err != nil {
		return err
	}
	if err := checkBindings(v, r.Ref, n.commit); err != nil {
		return err
	}
	pl.complete(sum) // whoever brought it
	for !pl.reaches(n, r.Old) {
		if err := ctx.Err(); err != nil {
			return err
		}
		end := n.end()
		if !end.commit.HasParent || r.Old == "" && end != n && !pl.sent[end.sum] { // nothing more to reach
			break
		}
		_, err := p.read(v, pl, end.commit.Parent, end)
		if errors.Is(err, errAbsent) && (r.Old == "" || pl.session.Force) {
			return nil // history that is not here: a shallow push
		}
		if errors.Is(err, errAbsent) {
			return p.absent(pl, end.commit.Parent, "ref %s: commit %s is missing, which may lie between %s, which the ref names, and %s", r.Ref, end.commit.Parent, r.Old, r.New)
		}
		if err != nil {
			return err
		}
	}
	if r.Old != "" && !pl.session.Force && !pl.reaches(n, r.Old) {
		return outcomef(wire.NotFastForward, "ref %s: commit %s does not descend from %s, which the ref names", r.Ref, r.New, r.Old)
	}
	return p.older(ctx, v, pl, n)
}

// older adds the history of n behind what was read, as far as the client has
// announced it: it brings parents that the repository lacks, or new detached
// metadata for those that it has.
func (p *Publisher) older(ctx context.Context, v *view, pl *plan, n *node) error {
	for end := n.end(); end.commit.HasParent; end = n.end() {
		if err := ctx.Err(); err != nil {
			return err
		}
		parent := ostree.Name{Checksum: end.commit.Parent, Type: ostree.CommitObject}
		statuses, err := p.cfg.Journal.Statuses(pl.session.ID, []ostree.Name{parent})
		if err != nil || statuses[0] == 0 {
			return err
		}
		_, err = p.read(v, pl, parent.Checksum, end)
		if errors.Is(err, errAbsent) {
			return nil // announced, and nothing needs it
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reaches tells whether the history of n was read down to a commit.
func (pl *plan) reaches(n *node, old string) bool {
	sum, err := ostree.ParseChecksum(old)
	if err != nil { // there is none for a new ref
		return false
	}
	o := pl.lineage.nodes[sum]
	return o != nil && n.descends(o)
}

// read takes a commit into the plan, as the parent of child unless that is nil.
func (p *Publisher) read(v *view, pl *plan, sum ostree.Checksum, child *node) (*node, error) {
	if n := pl.lineage.nodes[sum]; n != nil {
		if child != nil {
			child.line.into = n
		}
		return n, nil
	}
	commit, err := v.commit(sum)
	if err != nil {
		return nil, err
	}
	status, err := p.status(pl, sum)
	if err != nil {
		return nil, err
	}
	pl.path, pl.sent[sum] = append(pl.path, sum), status == journal.Staged
	if pl.sent[sum] || pl.session.Repair && status != 0 {
		pl.complete(sum)
	}
	n := &node{sum: sum, commit: commit}
	pl.lineage.add(n, child)
	return n, nil
}

// absent is the outcome of a session that lacks a commit.
func (p *Publisher) absent(pl *plan, c ostree.Checksum, format string, args ...any) error {
	o := outcomef(wire.MissingObjects, format, args...)
	return withProblems(p.cfg.Journal, o, pl, []wire.ObjectProblem{lacking(ostree.Name{Checksum: c, Type: ostree.CommitObject})})
}

// status is what the session knows of a commit: Staged if it brought it, 0 if it did
// not name it.
func (p *Publisher) status(pl *plan, at ostree.Checksum) (journal.Status, error) {
	statuses, err := p.cfg.Journal.Statuses(pl.session.ID, []ostree.Name{{Checksum: at, Type: ostree.CommitObject}})
	if err != nil {
		return 0, err
	}
	return statuses[0], nil
}

// checkBindings refuses a commit that names other refs or another collection
// (ostree.ref-binding, ostree.collection-binding).
func checkBindings(v *view, ref string, c *ostree.Commit) error {
	if err := c.CheckBindings(ref, v.repo.CollectionID()); err != nil {
		return outcomef(wire.Policy, "ref %s: %v", ref, err)
	}
	return nil
}
