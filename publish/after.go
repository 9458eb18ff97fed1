// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/journal"
)

// What is to follow a publish is a work: it cannot undo the move of the refs, nor hold
// it up. The journal has it from the same transaction as "published", so that it is done
// at least once for each publish, by this process or by the next one, and never for a
// session that was not published. The summary is tried within the publish, and is a work
// only if that fails.
//
// One goroutine does the works, one after the other in the order of followers. Works of
// several publishes become one run. What fails is repeated after a pause and holds up no
// other. Those after it may have wanted it, so they follow it once more when it is done.

// A Follower is a work that follows publishes, as the configuration asks for it now.
type Follower struct {
	Work     string // its name, unlike that of all others
	Concerns func(ref string) bool
	// Do does it. It may be repeated. When ctx ends it stops, and is done again later.
	Do func(ctx context.Context, due Due) error
	// Untold tells whether it has changed what the summary shows, until Told is called,
	// also of an earlier process. nil: it never does.
	Untold func() (bool, error)
	Told   func() error
	// Summary tells that it writes the summary, so that nobody else does.
	Summary bool
}

// Due is what a work is to be done for.
type Due struct {
	Work     string
	Refs     []string          // that moved; none if All
	All      bool              // they are too many to be listed
	Sessions []journal.Session // that were published, the oldest first
	More     int               // how many more there were
}

// workSummary is the work that writes the summary.
const workSummary = "summary"

// followers are all works that there are, in the order in which they are done.
func (p *Publisher) followers() []Follower {
	summary := Follower{Work: workSummary, Concerns: func(string) bool { return true }, Do: p.summaryWork}
	return append([]Follower{summary}, p.cfg.After()...)
}

// follow tries what follows this publish at once, while it has the lock.
func (a *apply) follow(ctx context.Context) {
	if a.signingFails() {
		return
	}
	start := time.Now()
	why, err := a.target.follow(ctx)
	if err != nil {
		a.cfg.Seen.Work(workSummary, false, time.Since(start))
		a.failed = append(a.failed, journal.Ask{
			Work: workSummary, Error: shortened(err.Error()), Next: time.Now().Add(pause(1)),
			Refs: slices.Collect(a.plan.session.RefNames()),
		})
		a.warn("the summary could not be written, which will be tried again: %v", err)
	}
	if why != "" {
		a.warn("the repository's summary was left as it is, and clients that read it do not see this push until it is updated: %s", why)
	}
}

// signingFails tells whether the summary could not be signed lately, and leaves it to the
// work then: what signs it may hang, and hold up each publish.
func (a *apply) signingFails() bool {
	w, due, err := a.cfg.Journal.Work(workSummary)
	if err != nil || !due || w.Tries == 0 || a.cfg.Keys() == nil {
		return false // what is wrong with the journal is found when this publish is recorded
	}
	a.failed = append(a.failed, journal.Ask{Work: workSummary, Refs: slices.Collect(a.plan.session.RefNames())})
	a.warn("the summary could not be written lately, which will be tried again: %s", w.Error)
	return true
}

// asks are the works that are to follow a publish: those that failed within it, and those
// that were not tried yet.
func (p *Publisher) asks(a *apply) []journal.Ask {
	asks := a.failed
	for _, f := range p.cfg.After() {
		if refs := f.concerned(slices.Collect(a.plan.session.RefNames())); len(refs) > 0 {
			asks = append(asks, journal.Ask{Work: f.Work, Refs: refs})
		}
	}
	return asks
}

// concerned are the refs of a list that the work concerns.
func (f *Follower) concerned(refs []string) (concerned []string) {
	for _, r := range refs {
		if f.Concerns(r) {
			concerned = append(concerned, r)
		}
	}
	return concerned
}

// A work that failed is tried again after a pause that doubles.
const (
	firstPause   = 10 * time.Second
	longestPause = 10 * time.Minute
)

// pause is how long to wait after so many tries that failed.
func pause(tries int) time.Duration {
	return min(firstPause<<min(tries-1, 10), longestPause)
}

// rests tells whether the pause of a work is not over. One that seems longer than all
// pauses is: the clock was put back.
func rests(w journal.Work) bool {
	left := time.Until(w.Next)
	return left > 0 && left <= longestPause
}

// RetryWorks has works that failed tried again at once.
func (p *Publisher) RetryWorks() {
	p.retryAll.Store(true)
	p.kickWorks()
}

func (p *Publisher) kickWorks() {
	select {
	case p.works <- struct{}{}:
	default: // one wake-up is on its way
	}
}

// runWorks does the works that are due, then waits for more, until ctx ends. After a
// start all are tried: what made them fail before may be mended. An error means that the
// journal has stopped or the disk cannot be trusted.
func (p *Publisher) runWorks(ctx context.Context) error {
	p.RetryWorks()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.works:
		case <-again.C:
		}
		next, err := p.doWorks(ctx, p.retryAll.Swap(false))
		if stopped := p.cfg.Journal.Err(); stopped != nil || errors.Is(err, durable.ErrNotSynced) {
			return cmp.Or(err, stopped)
		}
		if err != nil { // no space: deltas, say, have filled the disk
			p.cfg.Log.Error("cannot note how what follows a publish stands; it will be done again", "err", err)
			next = time.Now().Add(p.pause(1))
		}
		if !next.IsZero() {
			again.Reset(min(time.Until(next), longestPause))
		}
	}
}

// doWorks does each work that is due and whose pause is over, or each that is due, and
// tells when the next pause is over; the zero time if none is.
func (p *Publisher) doWorks(ctx context.Context, all bool) (next time.Time, err error) {
	if err := p.dropWorks(); err != nil {
		return next, err
	}
	for _, f := range p.followers() {
		if err := p.doWork(ctx, f.Work, all); err != nil {
			return next, err
		}
	}
	left, err := p.cfg.Journal.Works()
	for _, w := range left {
		if w.Tries > 0 && (next.IsZero() || w.Next.Before(next)) {
			next = w.Next
		}
	}
	return next, err
}

// dropWorks drops the works that the configuration does not ask for any more.
func (p *Publisher) dropWorks() error {
	due, err := p.cfg.Journal.Works()
	if err != nil {
		return err
	}
	for _, w := range due {
		if p.follower(w.Name) != nil {
			continue
		}
		p.cfg.Log.Warn("a work that was to follow a publish is not done: the configuration does not have it any more", "work", w.Name, "since", w.Since)
		if err := p.cfg.Journal.WorkDropped(w); err != nil {
			return err
		}
	}
	return nil
}

// follower is the work of a name as the configuration has it now, nil if it does not.
func (p *Publisher) follower(name string) *Follower {
	for _, f := range p.followers() {
		if f.Work == name {
			return &f
		}
	}
	return nil
}

// doWork does a work if it is due, and its pause over unless now.
func (p *Publisher) doWork(ctx context.Context, name string, now bool) error {
	w, due, err := p.cfg.Journal.Work(name)
	if err != nil || !due || ctx.Err() != nil || !now && rests(w) {
		return err
	}
	f := p.follower(name)
	if f == nil {
		return nil // the next pass drops it
	}
	d, err := p.due(f, w)
	if err != nil {
		return err
	}
	start := time.Now()
	failed := fault.Point("do the work "+f.Work, func() error { return f.Do(ctx, d) })
	if err := p.show(ctx, f, w); err != nil {
		return err
	}
	log := p.cfg.Log.With("work", w.Name, "refs", refCount(d), "sessions", len(d.Sessions)+d.More, "took", time.Since(start))
	switch {
	case errors.Is(failed, durable.ErrNotSynced):
		return failed
	case failed != nil && ctx.Err() != nil:
		log.Info("stopped what is to follow a publish; the next start does it again")
		return nil
	case failed != nil:
		next := time.Now().Add(p.pause(w.Tries + 1))
		log.Warn("what is to follow a publish failed; it will be tried again", "tries", w.Tries+1, "next", next.UTC().Round(time.Second), "err", failed)
		p.cfg.Seen.Work(f.Work, false, time.Since(start))
		return p.cfg.Journal.WorkFailed(w, shortened(failed.Error()), next)
	}
	log.Info("done what was to follow a publish")
	p.cfg.Seen.Work(f.Work, true, time.Since(start))
	return p.workDone(f, w)
}

// show has the summary written for what a work has changed, whether or not it failed.
func (p *Publisher) show(ctx context.Context, f *Follower, w journal.Work) error {
	if f.Untold == nil {
		return nil
	}
	untold, err := f.Untold()
	if err != nil || !untold {
		return err
	}
	writer := p.summaryWriter()
	err = p.cfg.Journal.Ask(w.Sessions, journal.Ask{Work: writer, Refs: w.Refs, All: w.All})
	if err = errors.Join(err, f.Told()); err != nil {
		return err
	}
	return p.doWork(ctx, writer, true)
}

// summaryWriter is the work that writes the summary.
func (p *Publisher) summaryWriter() string {
	for _, other := range p.cfg.After() {
		if other.Summary {
			return other.Work
		}
	}
	return workSummary
}

// AskSummary has the summary written although no publish asks for it, if it is the
// server's to write.
func (p *Publisher) AskSummary() error { return p.Ask(p.summaryWriter()) }

// AskSummary has the next server write the summary.
func AskSummary(j *journal.Journal) error {
	return j.Ask(nil, journal.Ask{Work: workSummary, All: true})
}

// Ask has a work done although no publish asks for it.
func (p *Publisher) Ask(work string) error {
	if err := p.cfg.Journal.Ask(nil, journal.Ask{Work: work, All: true}); err != nil {
		return err
	}
	p.kickWorks()
	return nil
}

// workDone records that a work is done, and what is to follow that.
func (p *Publisher) workDone(f *Follower, w journal.Work) error {
	var again []journal.Ask
	if w.Tries > 0 {
		again = p.afterIt(f, w)
	}
	err := p.cfg.Journal.WorkDone(w, again...)
	if len(again) > 0 {
		p.kickWorks() // one of them may be under way, and was asked for before
	}
	return err
}

// afterIt are the works that come after one that is done at last, and may have been done
// in vain before.
func (p *Publisher) afterIt(f *Follower, w journal.Work) (again []journal.Ask) {
	all := p.followers()
	at := slices.IndexFunc(all, func(other Follower) bool { return other.Work == f.Work })
	for _, later := range all[at+1:] {
		if refs := later.concerned(w.Refs); len(refs) > 0 || w.All {
			again = append(again, journal.Ask{Work: later.Work, Refs: refs, All: w.All})
		}
	}
	return again
}

// mostDueRefs is how many refs the sessions of one Due have in all, but for the first few
// of each.
const mostDueRefs = 20_000

// due reads what a work is to be done for. A session that was forgotten meanwhile is only
// counted.
func (p *Publisher) due(f *Follower, w journal.Work) (Due, error) {
	d := Due{Work: w.Name, Refs: f.concerned(w.Refs), All: w.All, More: w.More}
	refs := 0
	for _, id := range w.Sessions {
		read := p.cfg.Journal.Session
		if refs > mostDueRefs {
			read = p.cfg.Journal.Head
		}
		s, err := read(id)
		if errors.Is(err, journal.ErrNotFound) {
			d.More++
			continue
		}
		if err != nil {
			return d, err
		}
		refs += len(s.Refs)
		d.Sessions = append(d.Sessions, s)
	}
	return d, nil
}

// refCount is how many refs a work is done for, in words if they are too many.
func refCount(d Due) any {
	if d.All {
		return "all"
	}
	return len(d.Refs)
}

// shortened bounds what the journal and each document of a session keep of an error.
func shortened(text string) string {
	if len(text) > maxDetail {
		return strings.ToValidUTF8(text[:maxDetail], "") + "…"
	}
	return text
}

func (p *Publisher) summaryWork(ctx context.Context, _ Due) error {
	return p.production.writeSummary(ctx)
}

// finishSummary writes the summary if that is due, or if it does not fit.
func (p *Publisher) finishSummary(ctx context.Context) error {
	w, due, err := p.cfg.Journal.Work(workSummary)
	if err != nil {
		return err
	}
	if !due {
		return p.mendSummary(ctx)
	}
	if err := p.production.writeSummary(ctx); err != nil {
		return err
	}
	return p.workDone(&Follower{Work: workSummary}, w)
}
