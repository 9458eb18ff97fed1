// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/lirios/ostree-upload/journal"
)

// pass handles the sessions that are publishing, then of each token the one that has
// been verifying the longest. Whatever one token
// finalizes, another waits for one session of it at most, and for none of which the
// uploads are still being ingested. more tells that sessions are left which can be
// handled at once. An error means that the journal cannot be used or the disk cannot
// be trusted.
func (p *Publisher) pass(ctx context.Context) (more, retry bool, err error) {
	list, err := p.cfg.Journal.Live(inState(journal.Publishing, journal.Verifying))
	if err != nil {
		return false, false, err
	}
	p.keepSignings(list)
	for i := len(list) - 1; i >= 0 && ctx.Err() == nil; i-- {
		s := &list[i]
		if s.State != journal.Publishing {
			continue
		}
		over, err := p.signed(ctx, s, nil)
		again := false
		if over && err == nil {
			again, err = p.session(ctx, s.ID)
		}
		if err != nil {
			return false, retry, err
		}
		retry = retry || again
	}
	more, again, err := p.turns(ctx)
	return more, retry || again, err
}

// turns handles one verifying session of each token, first of the token that had its
// turn the longest ago.
func (p *Publisher) turns(ctx context.Context) (more, retry bool, err error) {
	list, err := p.cfg.Journal.Live(inState(journal.Verifying))
	if err != nil {
		return false, false, err
	}
	p.keepAwaited(list)
	p.keepChecks(list)
	slices.Reverse(list) // the oldest first
	slices.SortStableFunc(list, func(a, b journal.Session) int {
		return cmp.Compare(p.lastTurn[a.Token], p.lastTurn[b.Token])
	})
	had := make(map[string]bool) // tokens, and whether their session has to be tried again
	for i := range list {
		s := &list[i]
		if ctx.Err() != nil {
			break
		}
		ready, err := p.doneAhead(ctx, s)
		if err != nil {
			return more, retry, err
		}
		if !ready {
			continue // what is not done enqueues itself
		}
		if again, ok := had[s.Token]; ok {
			more = more || !again
			continue
		}
		p.turn++
		p.lastTurn[s.Token] = p.turn
		again, err := p.session(ctx, s.ID)
		if err != nil {
			return more, retry, err
		}
		had[s.Token] = again
		retry = retry || again
	}
	return more, retry, nil
}

// doneAhead tells whether all is done that comes before a session's turn, and else begins
// what can be.
func (p *Publisher) doneAhead(ctx context.Context, s *journal.Session) (bool, error) {
	awaited := p.await(ctx, s)
	if !awaited.over() {
		return false, nil
	}
	over, err := p.checked(ctx, s, awaited.err)
	if err != nil || !over {
		return false, err
	}
	return p.signed(ctx, s, errors.Join(awaited.err, p.consent(s)))
}

// session takes one session to its outcome. One that was aborted, and perhaps
// forgotten, while others were published needs nothing more.
func (p *Publisher) session(ctx context.Context, id string) (retry bool, err error) {
	s, err := p.cfg.Journal.Session(id)
	if err == nil && (s.State == journal.Verifying || s.State == journal.Publishing) {
		retry, err = p.outcome(ctx, &s)
	}
	sg := p.signings[id]
	if errors.Is(err, errUnsigned) {
		if sg != nil {
			sg.stale = true
		}
		p.Enqueue()
		return false, nil
	}
	if !retry {
		delete(p.checks, id) // a session that is finalized again is checked again
	}
	if sg != nil && (!retry || sg.err != nil) {
		delete(p.signings, id)
	}
	var closed *journal.StateError
	if errors.As(err, &closed) || errors.Is(err, journal.ErrNotFound) {
		return false, nil
	}
	return retry, err
}
