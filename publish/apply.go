// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// publish takes a session that is verifying or publishing to where all its refs
// have moved, and tells what is still to follow. The error is an *Outcome if the
// session is refused, libostree.ErrLocked if it must be tried again.
func (p *Publisher) publish(ctx context.Context, s *journal.Session) (*apply, error) {
	early, stop := p.whileVerifying(ctx, s)
	defer stop()
	if err := p.ready(early, s); err != nil {
		return nil, err
	}
	if err := p.consent(s); err != nil {
		return nil, err
	}
	defer p.cfg.Hold()()
	v, err := p.openView(s)
	if err != nil {
		return nil, err
	}
	pl, err := p.verify(early, v, s)
	if err != nil {
		return nil, err
	}
	target, err := p.production.change(s, v)
	if err != nil {
		return nil, err
	}
	defer target.close()
	a := &apply{cfg: p.cfg, view: v, target: target, plan: pl, signing: p.signings[s.ID]}
	return a, a.run(ctx, early)
}

// whileVerifying is a context that also ends when the session is aborted before it
// is publishing: then nothing that is checked for it matters any more.
func (p *Publisher) whileVerifying(ctx context.Context, s *journal.Session) (early context.Context, stop func()) {
	if s.State != journal.Verifying {
		return ctx, func() {}
	}
	changed := p.cfg.Journal.Changed(s.ID)
	early, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		// One that moved before Changed was asked is noticed here.
		if now, err := p.cfg.Journal.Session(s.ID); err == nil && now.State == s.State {
			select {
			case <-changed:
			case <-early.Done():
			}
		}
		cancel()
	})
	return early, func() {
		cancel()
		watch.Wait()
	}
}

// apply is one publish of one session.
type apply struct {
	cfg      Config
	view     *view
	target   change // nil: nothing is changed
	plan     *plan
	metas    map[ostree.Checksum][]byte // detached metadata to be merged
	signing  *signing                   // what was made before this turn; nil: nothing
	signed   map[ostree.Checksum]bool   // commits of which metas has the server's own signature
	quiet    bool                       // it warns of nothing, as another does so after it
	leftOut  int                        // commits whose detached metadata is not
	warnings []string                   // what the session is to know although it is published
	failed   []journal.Ask              // works that were tried within the publish
}

func (a *apply) warn(format string, args ...any) {
	if a.quiet {
		return
	}
	w := fmt.Sprintf(format, args...)
	a.cfg.Log.Warn(w, "session", a.plan.session.ID)
	a.warnings = append(a.warnings, w)
}

// run holds the shared lock to the end: prune, which needs the exclusive one,
// cannot take away what the closure found. early bounds what comes before the
// session is publishing, ctx what follows the move of the refs.
func (a *apply) run(ctx, early context.Context) (err error) {
	unlock, err := a.lock(early)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	c, err := a.checkWhole(early)
	if err != nil {
		return err
	}
	if err := a.checkMetas(); err != nil {
		return err
	}
	if err := a.checkPolicy(); err != nil {
		return err
	}
	if err := a.checkToken(); err != nil {
		return err
	}
	if s := a.plan.session; s.State == journal.Verifying && toBeHeld(s) {
		return errHeld
	}
	if err := a.addSignatures(); err != nil {
		return err
	}
	s, err := a.cfg.Journal.Move(a.plan.session.ID, journal.Publishing, func(s *journal.Session) {
		s.Detail, s.Brought = "", a.plan.brought()
	})
	if err != nil {
		return err
	}
	a.plan.session = &s
	// The objects without the commits: libostree makes those of a transaction
	// visible in any order, and a commit must not be there before its tree.
	if err := a.target.importTree(ctx, c); err != nil {
		return err
	}
	if err := a.target.sync(); err != nil {
		return err
	}
	return a.flip(ctx)
}

// sayAfter is how long a publish waits for a lock before the session says so.
const sayAfter = 2 * time.Second

// lock takes the shared lock. While another process, such as ostree prune, keeps
// the publish from it, the session says so.
func (a *apply) lock(ctx context.Context) (unlock func() error, err error) {
	since := time.Now().UTC()
	taken := make(chan struct{})
	var saying sync.WaitGroup
	saying.Go(func() {
		select {
		case <-taken:
		case <-time.After(sayAfter):
			a.say("waits for the repository's lock since %s: another process, such as ostree prune, holds it", since.Format(time.TimeOnly))
		}
	})
	unlock, err = a.target.lock(ctx)
	a.cfg.Seen.LockWait(Shared, time.Since(since))
	close(taken)
	saying.Wait()
	return unlock, err
}

// say tells in the session what it waits for. A session that has ended meanwhile
// is not told.
func (a *apply) say(format string, args ...any) {
	s := a.plan.session
	text := fmt.Sprintf(format, args...)
	a.cfg.Log.Info("session "+text, "session", s.ID)
	_, err := a.cfg.Journal.Move(s.ID, s.State, func(s *journal.Session) { s.Detail = text })
	if closed := new(journal.StateError); err != nil && !errors.As(err, &closed) {
		a.cfg.Log.Error("cannot note what a session waits for", "session", s.ID, "err", err)
	}
}

// checkToken refuses a session whose token was taken away, or may not move its
// refs any more. Once one of them has moved, all of them do.
func (a *apply) checkToken() error {
	if begun, err := a.begun(); begun || err != nil {
		return err
	}
	return a.cfg.mayPublish(a.plan.session)
}

// mayPublish refuses a session whose token may not move its refs now, or that was held
// and whose publisher may not publish it any more.
func (cfg *Config) mayPublish(s *journal.Session) error {
	if s.By != "" {
		by := cfg.Token(s.By)
		if by == nil {
			return outcomef(wire.Forbidden, "token %s, which had it published, was taken away or has expired", s.By)
		}
		if err := by.CheckPublish(s.RefNames()); err != nil {
			return outcomef(wire.Forbidden, "%v", err)
		}
	}
	t := cfg.Token(s.Token)
	if t == nil {
		return outcomef(wire.Forbidden, "token %s was taken away or has expired", s.Token)
	}
	if err := t.CheckMoves(token.Moves{Force: s.Force, Hold: s.Hold, Promote: s.Promote, Refs: s.Moved()}); err != nil {
		return outcomef(wire.Forbidden, "%v", err)
	}
	return nil
}

// begun tells whether a ref of the session has moved.
func (a *apply) begun() (bool, error) {
	s := a.plan.session
	for _, r := range s.Refs {
		if s.State != journal.Publishing || r.New == r.Old {
			continue
		}
		is, err := a.view.ref(r.Ref)
		if err != nil {
			return true, err
		}
		if moved, err := a.view.moved(s, r, is); moved || err != nil {
			return true, err
		}
	}
	return false, nil
}

// flip brings in the commits and then moves the refs. Only the move itself needs
// others to keep away: what takes long comes before.
func (a *apply) flip(ctx context.Context) error {
	if err := a.target.importCommits(ctx, a.plan.commits); err != nil {
		return err
	}
	if err := a.checkToken(); err != nil { // bringing in the objects can take long
		return err
	}
	if err := a.mergeMetas(ctx); err != nil {
		return err
	}
	moves, err := a.target.prepareRefs(a.plan.session)
	defer func() { err = errors.Join(err, moves.drop()) }()
	if err != nil {
		return err
	}
	// The commits, before a ref names them, and the refs before they get their name.
	if err := a.target.sync(); err != nil {
		return err
	}
	if err := a.move(ctx, moves); err != nil {
		return err
	}
	if a.plan.session.Repair {
		a.reviveOthers(ctx)
	}
	a.follow(ctx)
	return a.target.sync()
}

// move moves the refs, unless somebody else has moved one.
func (a *apply) move(ctx context.Context, moves moves) (err error) {
	since := time.Now()
	unlock, err := moves.alone()
	a.cfg.Seen.LockWait(Exclusive, time.Since(since))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	for _, r := range a.plan.session.Refs {
		if err := checkMoved(a.view, a.plan.session, r); err != nil {
			return err
		}
	}
	if err := a.checkToken(); err != nil {
		return err
	}
	return moves.apply(ctx)
}

// checkWhole walks the closure and makes what is staged durable: what the journal
// will vouch for must not be lost to a power cut. A first sync runs beside the
// walk and has most of the work. What other sessions staged since it began, and
// the walk found, is for the second.
func (a *apply) checkWhole(ctx context.Context) (c *closure, err error) {
	var syncing errgroup.Group
	syncing.Go(a.syncStaged)
	if c, err = a.closure(ctx); err == nil {
		err = a.checkTarget(c)
	}
	if failed := syncing.Wait(); failed != nil {
		return nil, failed // the disk cannot be trusted, whatever else was found
	}
	if err != nil {
		return nil, err
	}
	return c, a.syncStaged()
}

// syncStaged makes durable what is staged.
func (a *apply) syncStaged() error { return durable.SyncFS(a.cfg.Staged) }

// closure checks that every object of every commit is here, and tells where.
func (a *apply) closure(ctx context.Context) (*closure, error) {
	c := newClosure(a.view, a.cfg.Good)
	if c.repair = a.plan.session.Repair; c.repair {
		var err error
		if c.bad, err = takenBack(a.cfg.Journal, a.plan.session.ID); err != nil {
			return nil, err
		}
	}
	if err := c.walk(ctx, a.plan.commits...); err != nil {
		return nil, err
	}
	if err := a.look(ctx, c, a.plan.commits); err != nil {
		return nil, err
	}
	if err := a.lackingMeta(c); err != nil {
		return nil, err
	}
	if len(c.missing) == 0 {
		return c, nil
	}
	if a.plan.session.Promote {
		return nil, a.notWhole(ctx)
	}
	if err := a.unfit(ctx, c); err != nil {
		return nil, err
	}
	o := outcomef(wire.MissingObjects, "%d objects are missing or bad, one of them %s", len(c.missing), c.missing[0].Object)
	return nil, withProblems(a.cfg.Journal, o, a.plan, c.missing)
}

// look asks the repository where a closure's objects are, unless nothing is changed.
func (a *apply) look(ctx context.Context, c *closure, commits []ostree.Checksum) error {
	if a.target == nil {
		return nil
	}
	return a.target.look(ctx, c, commits)
}

// notWhole is the outcome of a session that brings nothing, and of which a commit is not
// whole in the repository: it names the first.
func (a *apply) notWhole(ctx context.Context) error {
	for _, r := range a.plan.session.Refs {
		commit, err := ostree.ParseChecksum(r.New)
		if err != nil {
			continue // the ref is deleted
		}
		c := newClosure(a.view, nil)
		if err := c.walk(ctx, commit); err != nil {
			return err
		}
		if err := a.look(ctx, c, []ostree.Checksum{commit}); err != nil {
			return err
		}
		if len(c.missing) > 0 {
			o := outcomef(wire.MissingObjects, "ref %s: commit %s is not whole in the repository: %d objects are missing or damaged, one of them %s", r.Ref, commit, len(c.missing), c.missing[0].Object)
			o.Problems = c.missing
			return o
		}
	}
	return outcomef(wire.MissingObjects, "an object of one of the commits was missing or damaged a moment ago")
}

// unfit refuses a session for good that needs an object which no file system can
// hold: ingest rejected it, and it is missing for that.
func (a *apply) unfit(ctx context.Context, c *closure) error {
	now, err := a.cfg.Journal.Session(a.plan.session.ID) // what was ingested since it was finalized counts
	if err != nil {
		return err
	}
	for _, p := range now.Problems {
		if p.Code != wire.Policy || !slices.ContainsFunc(c.missing, func(m wire.ObjectProblem) bool { return m.Object == p.Object }) {
			continue
		}
		n, err := ostree.ParseName(p.Object)
		if err != nil {
			return err
		}
		where, err := c.locate(ctx, n, a.plan.commits...)
		if err != nil {
			return err
		}
		return outcomef(wire.Policy, "%s, object %s: %s", where, n, p.Reason)
	}
	return nil
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
