// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// publish takes a session that is verifying or publishing to where all its refs
// have moved, and tells what is still to follow. The error is an *Outcome if the
// session is refused, libostree.ErrLocked if it must be tried again.
func (p *Publisher) publish(ctx context.Context, s *journal.Session) (*apply, error) {
	if err := p.cfg.Ready(ctx, s.ID); err != nil {
		return nil, err
	}
	defer p.cfg.Hold()()
	v, err := openView(p.cfg)
	if err != nil {
		return nil, err
	}
	pl, err := p.verify(ctx, v, s)
	if err != nil {
		return nil, err
	}
	r, err := openRepository(p.cfg, v)
	if err != nil {
		return nil, err
	}
	defer r.close()
	a := &apply{cfg: p.cfg, summary: p.summary, target: r, plan: pl}
	return a, a.run(ctx)
}

// apply is one publish of one session.
type apply struct {
	cfg      Config
	summary  *summary
	target   *repository
	plan     *plan
	warnings []string // what the session is to know although it is published
	due      []string // works that follow and are not done
}

func (a *apply) warn(format string, args ...any) {
	w := fmt.Sprintf(format, args...)
	a.cfg.Log.Warn(w, "session", a.plan.session.ID)
	a.warnings = append(a.warnings, w)
}

// run holds the shared lock to the end: prune, which needs the exclusive one,
// cannot take away what the closure found.
func (a *apply) run(ctx context.Context) (err error) {
	unlock, err := a.target.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	c, err := a.checkWhole(ctx)
	if err != nil {
		return err
	}
	s, err := a.cfg.Journal.Move(a.plan.session.ID, journal.Publishing, nil)
	if err != nil {
		return err
	}
	a.plan.session = &s
	// The objects without the commits: libostree makes those of a transaction
	// visible in any order, and a commit must not be there before its tree.
	if err := a.target.importTree(c); err != nil {
		return err
	}
	if err := a.target.sync(); err != nil {
		return err
	}
	return a.flip(ctx)
}

// flip brings in the commits and moves the refs, under the exclusive lock.
func (a *apply) flip(ctx context.Context) (err error) {
	unlock, err := a.target.lockAlone(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	for _, r := range a.plan.session.Refs {
		if err := checkMoved(a.target.view, a.plan.session, r); err != nil {
			return err
		}
	}
	metas, err := a.metas()
	if err != nil {
		return err
	}
	if err := a.target.importCommits(a.plan.commits, metas); err != nil {
		return err
	}
	// Before a ref names them.
	if err := a.target.sync(); err != nil {
		return err
	}
	if err := a.target.moveRefs(a.plan.session.Refs); err != nil {
		return err
	}
	a.follow()
	return a.target.sync()
}

// metas is the detached metadata that came for commits that the refs lead to.
func (a *apply) metas() (map[ostree.Checksum][]byte, error) {
	metas, err := a.cfg.Journal.CommitMetas(a.plan.session.ID)
	if err != nil {
		return nil, err
	}
	for c := range metas {
		if !slices.Contains(a.plan.path, c) {
			a.warn("detached metadata of commit %s was left out: no ref of this session leads to it", c)
			delete(metas, c)
		}
	}
	return metas, nil
}

// checkWhole walks the closure and makes what is staged durable: what the journal
// will vouch for must not be lost to a power cut. A first sync runs beside the
// walk and has most of the work. What other sessions staged since it began, and
// the walk found, is for the second.
func (a *apply) checkWhole(ctx context.Context) (c *closure, err error) {
	var syncing errgroup.Group
	syncing.Go(a.target.syncStaged)
	if c, err = a.closure(ctx); err == nil {
		err = a.checkTarget(c)
	}
	if failed := syncing.Wait(); failed != nil {
		return nil, failed // the disk cannot be trusted, whatever else was found
	}
	if err != nil {
		return nil, err
	}
	return c, a.target.syncStaged()
}

// closure checks that every object of every commit is here, and tells where.
func (a *apply) closure(ctx context.Context) (*closure, error) {
	c := newClosure(a.target.view)
	if err := c.walk(ctx, a.plan.commits...); err != nil {
		return nil, err
	}
	if err := a.lackingMeta(c); err != nil {
		return nil, err
	}
	if len(c.missing) == 0 {
		return c, nil
	}
	o := outcomef(wire.MissingObjects, "%d objects are missing or bad, one of them %s", len(c.missing), c.missing[0].Object)
	return nil, withProblems(a.cfg.Journal, o, a.plan, c.missing)
}

// lackingMeta notes the detached metadata that was announced and did not
// arrive, or was rejected: no signature is to vanish.
func (a *apply) lackingMeta(c *closure) error {
	names := make([]ostree.Name, len(a.plan.path))
	for i, commit := range a.plan.path {
		names[i] = ostree.Name{Checksum: commit, Type: ostree.CommitMeta}
	}
	statuses, err := a.cfg.Journal.Statuses(a.plan.session.ID, names)
	if err != nil {
		return err
	}
	for i, st := range statuses {
		if st == journal.Missing || st == journal.Rejected {
			c.missing = append(c.missing, wire.ObjectProblem{Object: names[i].String(), Code: wire.MissingObjects, Reason: "it was announced and did not arrive"})
		}
	}
	return nil
}

// withProblems adds missing and bad objects to an outcome. Of one that is
// missing since it was rejected the journal says better what is wrong.
func withProblems(j *journal.Journal, o *Outcome, pl *plan, missing []wire.ObjectProblem) error {
	names := make([]ostree.Name, len(missing))
	for i, m := range missing {
		n, err := ostree.ParseName(m.Object)
		if err != nil {
			return err
		}
		names[i] = n
	}
	statuses, err := j.Statuses(pl.session.ID, names)
	if err != nil {
		return err
	}
	for i, m := range missing {
		if statuses[i] != journal.Rejected {
			o.Problems = append(o.Problems, m)
		}
		if statuses[i] == journal.Rejected || m.Code == wire.BadObjects {
			o.Code = wire.BadObjects
		}
	}
	return o
}
