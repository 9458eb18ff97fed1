// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/lirios/ostree-upload/internal/background"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// repairs share the reading that sessions cause which are to repair: all that the
// repository has of their objects. Half of the cores do it, in the background, for one
// session of a token at a time, and for the tokens in turn.
type repairs struct {
	workers int
	turns   *semaphore.Weighted // serves those who wait in the order in which they came

	mu     sync.Mutex
	tokens map[string]chan struct{} // taken by the session of a token that has its time
	proven map[string]int64         // by session: how many objects its set had when all were verified
}

func newRepairs() *repairs {
	workers := max(1, runtime.GOMAXPROCS(0)/2)
	return &repairs{
		workers: workers, turns: semaphore.NewWeighted(int64(workers)),
		tokens: make(map[string]chan struct{}), proven: make(map[string]int64),
	}
}

// enter waits until no other session of a token is being verified.
func (r *repairs) enter(ctx context.Context, token string) (leave func(), err error) {
	r.mu.Lock()
	one := r.tokens[token]
	if one == nil {
		one = make(chan struct{}, 1)
		r.tokens[token] = one
	}
	r.mu.Unlock()
	select {
	case one <- struct{}{}:
		return func() { <-one }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// isProven tells whether all objects of a session were verified. What it was sent
// since then was verified as it arrived.
func (r *repairs) isProven(s *journal.Session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return s.Counts.Known > 0 && r.proven[s.ID] == s.Counts.Known
}

func (r *repairs) prove(session string, objects int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.proven[session] = objects
}

func (r *repairs) forget(session string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.proven, session)
}

const (
	// heldBatch is how many objects of a set are read from the journal at a time.
	heldBatch = 4096
	// heldTurn is how long one reads while others wait for their turn.
	heldTurn = 20 * time.Millisecond
)

// proof is the verification of what the repository has of one session's objects.
type proof struct {
	teller
	repo  *ostree.Repo
	bad   int
	first string // of what is bad

	mu    sync.Mutex
	found []wire.ObjectProblem // of one batch
}

// proveHeld verifies what the repository has of a session's objects, content
// included. What is damaged or gone is taken back, so that the client sends it again:
// then the error is an *Outcome.
func (p *Publisher) proveHeld(ctx context.Context, s *journal.Session) error {
	if p.repairs.isProven(s) {
		return nil
	}
	ctx, stop := p.whileVerifying(ctx, s)
	defer stop()
	leave, err := p.repairs.enter(ctx, s.Token)
	if err != nil {
		return err
	}
	defer leave()
	repo, err := p.production.read()
	if err != nil {
		return err
	}
	proof := &proof{teller: teller{p, s, time.Now()}, repo: repo}
	if err := proof.run(ctx); err != nil {
		return err
	}
	p.repairs.prove(s.ID, s.Counts.Known)
	p.log(s).Info("verified what the repository has of a session's objects", "objects", s.Counts.Known, "bad", proof.bad)
	if proof.bad == 0 {
		return nil
	}
	return outcomef(wire.BadObjects, "%d objects of the repository are damaged or gone, one of them %s", proof.bad, proof.first)
}

func (p *proof) run(ctx context.Context) error {
	for from := 0; ; from += heldBatch {
		part, err := p.cfg.Journal.Part(p.session.ID, from, heldBatch)
		if err != nil || len(part) == 0 {
			return err
		}
		if err := p.batch(ctx, held(part)); err != nil {
			return err
		}
		if err := p.takeBack(); err != nil {
			return err
		}
		p.tell("verifies what the repository has: %d of %d objects are done", from+len(part), p.session.Counts.Known)
	}
}

// takenBack lists the objects of a session that were found bad or gone, and have not
// arrived since.
func takenBack(j *journal.Journal, session string) (map[ostree.Name]bool, error) {
	lacking := make(map[ostree.Name]bool)
	for from := 0; ; from += heldBatch {
		part, err := j.Part(session, from, heldBatch)
		if err != nil || len(part) == 0 {
			return lacking, err
		}
		for _, e := range part {
			if e.Status == journal.Missing || e.Status == journal.Rejected {
				lacking[e.Name] = true
			}
		}
	}
}

// held are those objects that the session relies on the repository for.
func held(part []journal.Entry) (names []ostree.Name) {
	for _, e := range part {
		if e.Status == journal.Present {
			names = append(names, e.Name)
		}
	}
	return names
}

// batch verifies some objects, by several threads in the background.
func (p *proof) batch(ctx context.Context, names []ostree.Name) error {
	g, ctx := errgroup.WithContext(ctx)
	next := make(chan ostree.Name)
	for range min(p.repairs.workers, len(names)) {
		g.Go(func() error { return p.some(ctx, next) })
	}
	g.Go(func() error {
		defer close(next)
		for _, n := range names {
			select {
			case next <- n:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return g.Wait()
}

// some verifies objects in turn with whoever else repairs.
func (p *proof) some(ctx context.Context, names <-chan ostree.Name) error {
	background.Thread()
	turn := &turn{ctx: ctx, turns: p.repairs.turns}
	if err := turn.take(); err != nil {
		return err
	}
	defer turn.leave()
	v := ostree.NewVerifier(0)
	v.LimitMetadata(ostree.MaxMetadata)
	v.Step(turn.step)
	for n := range names {
		if err := p.look(ctx, v, n); err != nil {
			return err
		}
	}
	return nil
}

// turn is the right to read of one of the threads.
type turn struct {
	ctx   context.Context
	turns *semaphore.Weighted
	since time.Time // zero while it has none
}

func (t *turn) take() error {
	err := t.turns.Acquire(t.ctx, 1)
	if err == nil {
		t.since = time.Now()
	}
	return err
}

func (t *turn) leave() {
	if !t.since.IsZero() {
		t.turns.Release(1)
		t.since = time.Time{}
	}
}

// step lets others have their turn after a while.
func (t *turn) step() error {
	if time.Since(t.since) < heldTurn {
		return t.ctx.Err()
	}
	t.leave()
	return t.take()
}

// look verifies one object and notes what is wrong with it. One that this user may not
// read in whole is replaced as well: it is of no use to readers either.
func (p *proof) look(ctx context.Context, v *ostree.Verifier, n ostree.Name) error {
	err := v.VerifyHeld(ctx, p.repo, n)
	var bad *ostree.BadObjectError
	var unreadable *ostree.UnreadableError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &bad):
		p.note(wire.ObjectProblem{Object: n.String(), Code: wire.BadObjects, Reason: heldReason + bad.Reason})
	case errors.As(err, &unreadable):
		p.note(wire.ObjectProblem{Object: n.String(), Code: wire.BadObjects, Reason: heldReason + unreadable.Reason})
	case errors.Is(err, fs.ErrNotExist):
		p.note(wire.ObjectProblem{Object: n.String(), Code: wire.MissingObjects, Reason: "the repository lost it"})
	default:
		return err
	}
	return nil
}

const heldReason = "the copy in the server's repository is damaged: "

func (p *proof) note(problem wire.ObjectProblem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found = append(p.found, problem)
}

// takeBack records what a batch found.
func (p *proof) takeBack() error {
	if len(p.found) == 0 {
		return nil
	}
	slices.SortFunc(p.found, func(a, b wire.ObjectProblem) int { return strings.Compare(a.Object, b.Object) }) // whichever thread was first
	if p.bad == 0 {
		p.first = p.found[0].Object
	}
	p.bad += len(p.found)
	for _, f := range p.found {
		p.cfg.Log.Warn("an object of the repository is not what its name says", "session", p.session.ID, "object", f.Object, "err", f.Reason)
	}
	err := p.withdraw(p.session.ID, p.found)
	p.found = nil
	return err
}
