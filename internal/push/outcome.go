// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// One request waits for the outcome for at most longestWait, and for no less than
// shortestWait where a proxy has no patience.
const (
	longestWait  = 30 * time.Second
	shortestWait = 250 * time.Millisecond
)

// finalize asks for verification and publishing.
func (r *run) finalize(ctx context.Context) error {
	return r.retrier.Do(ctx, "finalize session "+r.session.ID, func() error {
		s, err := r.client.Finalize(ctx, r.session.ID)
		if err == nil {
			r.update(s)
		}
		return err
	})
}

// update keeps what the server says of the session.
func (r *run) update(s wire.Session) {
	waits := s.State == wire.Verifying || s.State == wire.Publishing
	if waits && s.Detail != "" && s.Detail != r.session.Detail {
		r.opt.Log.Warn("the session "+s.Detail, "session", s.ID)
	}
	r.session = s
	r.progress.noted(s)
	switch s.State {
	case wire.Verifying:
		r.progress.Set(Verifying)
	case wire.Publishing:
		r.progress.Set(Publishing)
	}
}

// await waits until the session is neither verifying nor publishing. The waits
// grow: the outcome may fall between an answer and the next question. Where a proxy
// cuts a wait, the session is asked for as it is now, and later waits are shorter:
// as long as the server says that the session lives, the push waits for it.
func (r *run) await(ctx context.Context) error {
	if r.lastByte.IsZero() {
		r.lastByte = time.Now()
	}
	defer func() { r.seconds.Finalize = since(r.lastByte) }()
	r.update(r.session)
	id, longest := r.session.ID, longestWait
	for wait := time.Second; ; wait = min(2*wait, longest) {
		if st := r.session.State; st != wire.Verifying && st != wire.Publishing {
			return r.refresh(ctx)
		}
		now := wait
		err := r.retrier.Do(ctx, "wait for session "+id, func() error {
			s, err := r.client.Session(ctx, id, now)
			if err == nil {
				r.update(s)
			} else if now > 0 {
				longest, now = max(now/2, shortestWait), 0
			}
			return err
		})
		if err != nil {
			return err
		}
	}
}

// refresh reads the session as it is now, with its problems.
func (r *run) refresh(ctx context.Context) error {
	id := r.session.ID
	return r.retrier.Do(ctx, "ask for session "+id, func() error {
		s, err := r.client.Session(ctx, id, 0)
		if err == nil {
			r.session = s
		}
		return err
	})
}

// closedMeanwhile deals with a session that another client of it may have
// finalized while this one sent: its outcome is ours.
func (r *run) closedMeanwhile(ctx context.Context, closed error) error {
	if err := r.refresh(ctx); err != nil {
		return err
	}
	if r.session.State == wire.Open { // it was closed and is open again
		return closed
	}
	return r.await(ctx)
}

// outcomeError is the error of a session that was finalized and ended unpublished.
func outcomeError(s wire.Session) error {
	if s.State != wire.Failed {
		return closedError(s)
	}
	e := &Error{Exit: ExitFailed, Code: s.Error, Err: errors.New(outcome(s))}
	if client.IsRefusal(s.Error) {
		e.Exit = ExitRefused
	}
	switch s.Error {
	case wire.RefMoved:
		e.HintText = "someone else pushed first; rebuild on top of it and push again"
	case wire.NotFastForward:
		e.HintText = "rebuild on top of the server's commit, or push with --force if your token may"
	}
	return e
}

// prepareRound decides whether another round can help a session that went back to
// open instead of being published.
func (r *run) prepareRound(ctx context.Context, s wire.Session) error {
	switch s.Error {
	case wire.InsufficientStorage:
		return &Error{Exit: ExitForNow, Code: s.Error, Err: errors.New(outcome(s))}
	case wire.Forbidden: // the token lost its right while the session waited
		return &Error{Exit: ExitRefused, Code: s.Error, Err: errors.New(outcome(s)), HintText: "the session is open still: push again with a token that may"}
	case wire.MissingObjects, wire.BadObjects:
		strays, err := r.strays(ctx, s.Problems)
		if err != nil {
			return err
		}
		if len(strays) > 0 {
			return r.replaceSession(ctx, s, strays)
		}
		if r.repairs() {
			return r.countRepair(ctx, s)
		}
		r.opt.Log.Warn("the server lacks objects", "session", s.ID, "code", s.Error, "objects", len(s.Problems))
		return r.countRound(ctx, problemNames(s.Problems), "lacked or rejected")
	}
	if r.rounds >= maxRounds {
		return &Error{Exit: ExitForNow, Code: s.Error, Err: errors.New(outcome(s))}
	}
	r.rounds++
	return nil
}

// outcome says in words how a session ended.
func outcome(s wire.Session) string {
	switch {
	case s.Detail != "":
		return s.Detail
	case s.Error != "":
		return fmt.Sprintf("session %s is %s: %s", s.ID, s.State, s.Error)
	}
	return fmt.Sprintf("session %s is %s", s.ID, s.State)
}

// problemNames lists the objects of problems; what is not a name is left out.
func problemNames(problems []wire.ObjectProblem) []ostree.Name {
	var names []ostree.Name
	for _, p := range problems {
		if n, err := ostree.ParseName(p.Object); err == nil {
			names = append(names, n)
		}
	}
	return slices.CompactFunc(names, func(a, b ostree.Name) bool { return a == b })
}
