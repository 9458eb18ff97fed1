// SPDX-License-Identifier: AGPL-3.0-or-later

// Package publish brings a session's verified objects into the repository and
// moves its refs.
//
//   - A ref moves only while its session is Publishing, only from the commit
//     that the session was opened with, and only when every object of the new
//     commit is in the repository.
//   - Everything that can be refused is refused before the repository changes.
//   - Publishing rolls forward: whatever is found Publishing after a crash goes
//     through the same steps again, each of which may be repeated.
//
// One Publisher works on a repository, one session at a time; each publish
// opens the repository anew. Enqueue and Reader may be used by many
// goroutines.
package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/token"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/sign"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// Config says what a Publisher publishes, and where.
type Config struct {
	Repo    string         // the production repository, or the folder of Mirror
	Mirror  *mirror.Mirror // of one in a bucket; nil: it is on the disk
	Staged  string         // the repository of verified objects (tusstore)
	Journal *journal.Journal
	Summary func() Summary    // as the configuration says now
	Keys    func() *sign.Keys // that the server signs with, as the configuration says now; nil if it does not
	// Token finds the token of a name as it is now; nil if it was taken away or has
	// expired.
	Token func(name string) *token.Token
	// Good tells whether a staged object is there and is what its name says.
	Good func(context.Context, ostree.Name) (bool, error)
	// Forget lets an object that proved missing or bad be uploaded again.
	Forget func(session string, n ostree.Name) error
	// Ready waits until what has arrived of a session is staged.
	Ready func(ctx context.Context, session string) error
	// Drop forgets the uploads of a session that has ended.
	Drop func(session string) error
	// After are the works that the configuration asks for besides the summary, in the
	// order in which they are done.
	After func() []Follower
	// Check is what has to consent to what is published, as the configuration has it now.
	Check func() Check
	// HoldTTL is how long a session is held for somebody to publish it.
	HoldTTL func() time.Duration
	// Policy says who has to have signed what is published, as the configuration has it now.
	Policy func() []config.Policy
	// Hold keeps staged objects where they are until the returned release.
	Hold func() (release func())
	Seen Seen
	Log  *slog.Logger
}

// fill has what is read of a configuration that is not given say what none says.
func (cfg *Config) fill() {
	if cfg.Keys == nil {
		cfg.Keys = func() *sign.Keys { return nil }
	}
	if cfg.Summary == nil {
		cfg.Summary = func() Summary { return Auto }
	}
}

// Publisher publishes sessions one after the other.
type Publisher struct {
	cfg        Config
	production production
	kick       chan struct{}
	wait       time.Duration // before what could not be finished is tried again

	// Verifying sessions whose uploads are waited for, or have been; only pass uses it.
	awaited  map[string]*ahead
	checks   map[string]*ahead   // of verifying sessions, also by pass alone
	signings map[string]*signing // of verifying and publishing ones, also by pass alone
	signers  *semaphore.Weighted
	waiting  sync.WaitGroup

	previews previews // of held sessions
	repairs  *repairs

	works    chan struct{} // wakes the goroutine that does the works
	retryAll atomic.Bool   // works are tried although their pause is not over
	pause    func(tries int) time.Duration

	// When a token had its turn last; only pass uses it.
	turn     uint64
	lastTurn map[string]uint64
}

// New makes a Publisher; Run makes it work.
func New(cfg Config) *Publisher {
	cfg.Seen.fill()
	cfg.fill()
	if cfg.After == nil {
		cfg.After = func() []Follower { return nil }
	}
	if cfg.Check == nil {
		cfg.Check = func() Check { return Check{} }
	}
	if cfg.Policy == nil {
		cfg.Policy = func() []config.Policy { return nil }
	}
	return &Publisher{
		cfg: cfg, production: productionOf(cfg),
		kick: make(chan struct{}, 1), wait: retryAfter, awaited: make(map[string]*ahead), checks: make(map[string]*ahead), lastTurn: make(map[string]uint64), repairs: newRepairs(),
		signings: make(map[string]*signing), signers: semaphore.NewWeighted(mostSigners),
		works: make(chan struct{}, 1), pause: pause,
	}
}

// A publish that could not be finished, for a lock not got or an error of the
// server's own, is tried again after a time that doubles.
const (
	retryAfter  = time.Second
	retryAtMost = time.Minute
)

// Enqueue tells Run that a session is verifying. The journal holds which.
func (p *Publisher) Enqueue() {
	select {
	case p.kick <- struct{}{}:
	default: // one wake-up is on its way; it will see this session too
	}
}

// Recover puts the sessions that the process before left in mid-air where this
// one can go on: verifying ones back to open, what ended ones still hold
// released. Those that are publishing are finished by Run, before anything else.
func (p *Publisher) Recover() error {
	if err := errors.Join(p.production.tidy(p.cfg.Log), p.dropViews()); err != nil {
		return err
	}
	ended, err := p.cfg.Journal.Sessions(func(s *journal.Session) bool { return s.State.Final() })
	if err != nil {
		return err
	}
	for _, s := range ended {
		if err := p.release(s.ID); err != nil {
			return err
		}
	}
	return p.reopen()
}

// reopen puts the sessions whose verification a stop cut off back to open. A
// server that stops leaves none to the next start; one that was killed does.
func (p *Publisher) reopen() error {
	list, err := p.cfg.Journal.Live(inState(journal.Verifying))
	if err != nil {
		return err
	}
	for _, s := range list {
		if s.By != "" {
			if err := p.holdAgain(s.ID, "", "the server stopped while it verified; publish it again"); err != nil {
				return err
			}
			continue
		}
		_, err := p.cfg.Journal.Move(s.ID, journal.Open, func(s *journal.Session) {
			s.Error, s.Detail = "", "the server stopped while it verified; finalize again"
		})
		if err != nil {
			return err
		}
		p.cfg.Log.Info("session was being verified when the server stopped; it is open again", "session", s.ID)
	}
	return nil
}

func inState(states ...journal.State) func(*journal.Session) bool {
	return func(s *journal.Session) bool {
		for _, st := range states {
			if s.State == st {
				return true
			}
		}
		return false
	}
}

// Run publishes what the journal shows as publishing or verifying, then waits
// for Enqueue, until ctx ends, and does the works that follow. A publish under way is completed first; sessions
// that are only verifying are open again then. After an error the process has to
// end as after a crash: what failed may be a sync, and what was not synced must
// be verified again before anything relies on it.
func (p *Publisher) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.runWorks(ctx) })
	g.Go(func() error { return p.runPublishes(ctx) })
	return g.Wait()
}

func (p *Publisher) runPublishes(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer p.waiting.Wait()
	defer stop()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return p.reopen()
		case <-p.kick:
		case <-again.C:
		}
		more, retry, err := p.pass(ctx)
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		if more {
			p.Enqueue()
		}
		if !retry {
			p.wait = retryAfter
			continue
		}
		again.Reset(p.wait)
		p.wait = min(2*p.wait, retryAtMost)
	}
}

// Finish publishes what waits for it, for a caller that does not call Run. Of the works
// that follow it does the summary; the others are for the server.
func (p *Publisher) Finish(ctx context.Context) error {
	for {
		more, retry, err := p.pass(ctx)
		if err == nil && retry {
			err = errors.New("not everything could be published now; see the log")
		}
		if err != nil {
			return err
		}
		if !more && len(p.awaited) == 0 && len(p.signings) == 0 {
			return p.finishSummary(ctx)
		}
		if more {
			continue
		}
		select {
		case <-p.kick:
		case <-ctx.Done():
			p.waiting.Wait()
			return ctx.Err()
		}
	}
}

func (p *Publisher) outcome(ctx context.Context, s *journal.Session) (retry bool, err error) {
	log := p.log(s)
	start := time.Now()
	seen := func(outcome string) { p.cfg.Seen.Published(outcome, start.Sub(s.Updated), time.Since(start)) }
	done, err := p.publish(ctx, s)
	if err == nil {
		_, err = p.end(s.ID, journal.Published, func(s *journal.Session) {
			s.Error, s.Detail = "", strings.Join(done.warnings, "; ")
		}, p.asks(done)...)
	}
	var outcome *Outcome
	var closed *journal.StateError
	switch {
	case errors.Is(err, errHeld):
		return false, p.hold(s.ID, done.warnings)
	case err == nil:
		seen(wire.Published)
		logPublished(log, done.plan.session, time.Since(start))
		p.kickWorks()
		return false, nil
	case errors.As(err, &closed), errors.Is(err, durable.ErrNotSynced), errors.Is(err, errUnsigned):
		return false, err
	case errors.As(err, &outcome):
		seen(outcome.Code)
		log.Warn("not published", "ref", s.RefList(), "code", outcome.Code,
			"objects", s.Counts.Staged, "bytes", s.Counts.Received, "took", time.Since(start), "age", s.Age(time.Now()), "err", outcome)
		return p.settle(ctx, s.ID, outcome)
	case ctx.Err() != nil, errors.Is(err, context.Canceled): // a stop, or an abort meanwhile
		return false, nil
	}
	if is, say := p.production.later(err); is {
		if say == "" || say != s.Detail { // else it was told; a store may be down for hours
			log.Info("the repository cannot be changed now, trying again", "ref", s.RefList(), "took", time.Since(start), "err", err)
		}
		return true, p.waits(s.ID, say)
	}
	seen(wire.Internal)
	log.Error("cannot publish", "ref", s.RefList(), "took", time.Since(start), "err", err)
	return p.settle(ctx, s.ID, internal(err))
}

// Outcome is why a session is not published: one of wire's codes, in words,
// with the objects that are missing or bad.
type Outcome struct {
	Code     string
	Detail   string
	Problems []wire.ObjectProblem
}

func (o *Outcome) Error() string { return o.Detail }

func outcomef(code, format string, args ...any) *Outcome {
	return &Outcome{Code: code, Detail: shortened(fmt.Sprintf(format, args...))}
}

// maxDetail is how many bytes the words of an outcome may have: they may quote what
// was sent, such as the bindings of a commit, and each list of sessions reads them.
const maxDetail = 2000

// open tells whether the session can go on: the client may still send what is
// missing.
func (o *Outcome) open() bool {
	switch o.Code {
	case wire.MissingObjects, wire.BadObjects, wire.InsufficientStorage, wire.Internal, wire.Forbidden:
		return true
	}
	return false
}

// lacksForGood tells whether a session lacks what nobody can send to it: it takes no
// objects.
func (o *Outcome) lacksForGood(s *journal.Session) bool {
	return s.Promote && (o.Code == wire.MissingObjects || o.Code == wire.BadObjects)
}

// settle records an outcome: back to open, or failed for good. A session of
// which a ref has moved cannot go back; it stays publishing and is tried again.
func (p *Publisher) settle(ctx context.Context, id string, o *Outcome) (retry bool, err error) {
	s, err := p.cfg.Journal.Session(id)
	if err != nil {
		return false, err
	}
	switch {
	case s.State == journal.Aborted, s.State == journal.Expired, s.State == journal.Declined: // meanwhile, by somebody else
		return false, nil
	case s.State.Final(): // only what it held is left, which the next start lets go
		return false, o
	}
	if s.State == journal.Publishing && o.open() {
		moved, err := p.anyRefMoved(&s)
		if err != nil {
			p.cfg.Log.Error("cannot tell which refs have moved", "session", id, "err", err)
		}
		if err != nil || moved {
			_, err := p.cfg.Journal.Move(id, journal.Publishing, func(s *journal.Session) {
				s.Detail = "publishing is not finished and will be tried again: " + o.Detail
			})
			return true, err
		}
	}
	if s.State == journal.Publishing {
		if again, err := p.undo(ctx, &s, o); again || err != nil {
			return again, err
		}
	}
	if err := p.withdraw(id, o.Problems); err != nil {
		return false, err
	}
	if s.By != "" && len(o.Problems) == 0 && (s.State == journal.Verifying || o.open()) {
		return false, p.holdAgain(id, o.Code, o.Detail)
	}
	why := func(s *journal.Session) { s.Error, s.Detail, s.By = o.Code, o.Detail, "" }
	if o.open() && !o.lacksForGood(&s) {
		_, err = p.cfg.Journal.Move(id, journal.Open, why)
	} else {
		_, err = p.end(id, journal.Failed, why)
	}
	return false, err
}

// withdraw takes back what was said of objects that proved missing or bad, so that
// they can be sent again.
func (p *Publisher) withdraw(id string, problems []wire.ObjectProblem) error {
	if len(problems) == 0 {
		return nil
	}
	for _, problem := range problems {
		n, err := ostree.ParseName(problem.Object)
		if err != nil {
			return err
		}
		if err := p.cfg.Forget(id, n); err != nil {
			return err
		}
	}
	return p.cfg.Journal.Withdraw(id, problems, nil)
}

// internal makes an outcome of an error of the server itself.
func internal(cause error) *Outcome {
	code := wire.Internal
	if errors.Is(cause, unix.ENOSPC) || errors.Is(cause, unix.EDQUOT) {
		code = wire.InsufficientStorage
	}
	return outcomef(code, "%v", cause)
}
