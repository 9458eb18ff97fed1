// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/lirios/ostree-upload/internal/program"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// The operator's program looks at a session that is verified, before anything changes,
// and only its consent lets the session go on. That may take long, so it goes on beside
// the publishes of others, and no lock is held meanwhile. When it is over, all that was
// verified before is verified once more, at the session's turn. What it found counts
// until the session leaves "verifying", as its refs and commits stay the same so long.

// Check is the program, as the configuration has it now.
type Check struct {
	Command []string // and its arguments, to which the path of a repository is added; nil for none
	Timeout time.Duration
}

// mostChecks is how many sessions are checked at a time, of one token only one.
const mostChecks = 4

// checked tells whether nothing more has to be waited for before a session has its turn.
// It begins the session's check if that has its turn, and not for one that failed to be
// made ready.
func (p *Publisher) checked(ctx context.Context, s *journal.Session, failed error) (bool, error) {
	if failed != nil {
		return true, nil
	}
	c := p.checks[s.ID]
	if c == nil {
		check := p.cfg.Check()
		if check.Command == nil || s.By != "" { // that one was checked before it was held
			return true, nil
		}
		if !p.mayCheck(s.Token) {
			return false, p.say(s, "waits for its check, as others are being checked")
		}
		c = p.begin(s.Token, func() error { return p.check(ctx, check, s.ID) })
		p.checks[s.ID] = c
	}
	return c.over(), nil
}

func (p *Publisher) mayCheck(token string) bool {
	running := 0
	for _, c := range p.checks {
		if c.over() {
			continue
		}
		if c.token == token {
			return false
		}
		running++
	}
	return running < mostChecks
}

// keepChecks forgets what was found of sessions that are no longer verifying.
func (p *Publisher) keepChecks(verifying []journal.Session) {
	still := make(map[string]bool)
	for _, s := range verifying {
		still[s.ID] = true
	}
	for id, c := range p.checks {
		if !still[id] && c.over() {
			delete(p.checks, id)
		}
	}
}

// consent returns why a session is not to be published: what its check has found, or that
// it cannot be signed.
func (p *Publisher) consent(s *journal.Session) error {
	if c := p.checks[s.ID]; c != nil && s.State == journal.Verifying && c.err != nil {
		return c.err
	}
	if sg := p.signings[s.ID]; sg != nil && sg.over() {
		return sg.err
	}
	return nil
}

// check lets the program look at one session. The error is an *Outcome if the session is
// refused.
func (p *Publisher) check(ctx context.Context, check Check, id string) error {
	s, err := p.cfg.Journal.Session(id)
	if err != nil {
		return err
	}
	early, stop := p.whileVerifying(ctx, &s)
	defer stop()
	v, err := p.checkView(early, &s)
	if err != nil {
		return err
	}
	defer func() {
		if err := v.remove(); err != nil {
			p.cfg.Log.Error("cannot remove what a check looked at; the next start does", "session", s.ID, "err", err)
		}
	}()
	start := time.Now()
	name := check.Command[0]
	if err := p.say(&s, fmt.Sprintf("is being checked by %s since %s", name, start.UTC().Format(time.TimeOnly))); err != nil {
		return err
	}
	err = p.runCheck(early, check, &s, v)
	if err == nil {
		p.log(&s).Info("checked", "program", name, "ref", s.RefList(), "took", time.Since(start))
	}
	return err
}

func (p *Publisher) runCheck(ctx context.Context, check Check, s *journal.Session, v *checkView) error {
	ctx, stop := p.whileAllowed(ctx, s)
	defer stop()
	doc := s.Document()
	stdin, err := json.Marshal(&doc)
	if err != nil {
		return err
	}
	_, err = program.Run(ctx, program.Command{
		Args: append(check.Command[:len(check.Command):len(check.Command)], v.path), Env: checkEnvironment(s, v), Dir: v.path,
		Stdin: append(stdin, '\n'), Stdout: io.Discard, Nice: checkNice, Timeout: check.Timeout,
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return checkOutcome(err)
}

// checkNice is by how much the priority of the program is lower than the server's.
const checkNice = 5

// mostRefList is how many bytes of names of refs go into an environment, which the kernel
// bounds.
const mostRefList = 32 << 10

func checkEnvironment(s *journal.Session, v *checkView) []string {
	env := []string{"OSTREE_REPO=" + v.path, "OSTREE_SESSION=" + s.ID}
	var refs []string
	size := 0
	for r := range s.RefNames() {
		refs, size = append(refs, r), size+len(r)+1
	}
	if size > mostRefList {
		return append(env, "OSTREE_ALL_REFS=1")
	}
	return append(env, "OSTREE_REFS="+strings.Join(refs, " "))
}

// checkOutcome is what comes of a run. What could not be run has refused nothing: the
// session is open again.
func checkOutcome(err error) error {
	var e *program.Error
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &e):
		return err
	case !e.Started:
		return outcomef(wire.Internal, "the server's check-command cannot be run, and without it nothing is published: %s", printable(e.Error()))
	case e.Ran():
		return outcomef(wire.Policy, "%s", printable(fmt.Sprintf("the server's check refused it (%s, exit status %d)%s", e.Program, e.Status, quoted(e.Said))))
	}
	return outcomef(wire.Policy, "%s", printable("the server's check did not come to an end, which counts as a refusal: "+e.Error()))
}

// mostSaid is how many lines of what a program said its pusher gets.
const mostSaid = 10

func quoted(said []string) string {
	if len(said) == 0 {
		return ""
	}
	return ": " + strings.Join(said[:min(len(said), mostSaid)], "; ")
}

func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}

// tokenTime is how often a check asks whether its session's token may still push.
const tokenTime = 2 * time.Second

// whileAllowed is a context that also ends when the session's token may not push its refs
// any more; its cause is an *Outcome then.
func (p *Publisher) whileAllowed(ctx context.Context, s *journal.Session) (allowed context.Context, stop func()) {
	allowed, cancel := context.WithCancelCause(ctx)
	tick := time.NewTicker(tokenTime)
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-allowed.Done():
				return
			case <-tick.C:
				if err := p.cfg.mayPublish(s); err != nil {
					cancel(err)
				}
			}
		}
	})
	return allowed, func() {
		cancel(nil)
		tick.Stop()
		watch.Wait()
	}
}
