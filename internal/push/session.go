// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// unfinished are the states in which a session may still be of use. In two of them
// nothing can be sent any more: the client that finalized it died before the outcome.
var unfinished = []string{wire.Open, wire.Verifying, wire.Publishing}

// openSession uses our session like open that was created after a time, or opens
// one. The search is repeated with the rest: if the answer to an opening was lost,
// it finds that session.
func (r *run) openSession(ctx context.Context, open wire.OpenRequest, after time.Time) error {
	err := r.retrier.Do(ctx, "open a session", func() error {
		found, err := r.findSessions(ctx, open, after)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return r.useSession(found[0], true)
		}
		s, err := r.client.OpenSession(ctx, open)
		if err != nil {
			return err
		}
		return r.useOldest(ctx, s, after)
	})
	if err != nil || !r.resumed {
		return err
	}
	return r.takeOver(ctx, r.patience())
}

// useOldest uses s, which was just opened, unless a rival opened one for the same at
// the same time: of these all use the oldest.
func (r *run) useOldest(ctx context.Context, s wire.Session, after time.Time) error {
	all, err := r.findSessions(ctx, openOf(s), after)
	if err != nil {
		return err
	}
	if len(all) == 0 || all[len(all)-1].ID == s.ID {
		return r.useSession(s, false)
	}
	if _, err := r.client.Abort(ctx, s.ID); err != nil {
		r.opt.Log.Warn("could not abort a session that is not needed", "session", s.ID, "err", err)
	}
	return r.useSession(all[len(all)-1], true)
}

// findSessions looks for unfinished sessions for the same refs and commits, the
// newest first, in the first state that has any.
func (r *run) findSessions(ctx context.Context, open wire.OpenRequest, after time.Time) (found []wire.Session, err error) {
	moves := open.Moves()
	states := unfinished
	if open.Hold {
		states = append(states[:len(states):len(states)], wire.Held) // then nothing is left to do
	}
	for _, state := range states {
		sessions, err := r.client.OwnSessions(ctx, state, moves)
		if err != nil {
			return nil, err
		}
		for _, s := range sessions {
			if s.State == state && s.Created.After(after) && movesOf(s) == moves {
				w, err := r.whole(ctx, s)
				if err != nil {
					return nil, err
				}
				if w != nil {
					found = append(found, *w)
				}
			}
		}
		if len(found) > 0 {
			break
		}
	}
	return found, nil
}

// movesOf is what a session of a list is to do. Servers that list all refs do not
// say.
func movesOf(s wire.Session) string {
	if s.Moves != "" {
		return s.Moves
	}
	return openOf(s).Moves()
}

// openOf is the request that opens a session like s.
func openOf(s wire.Session) wire.OpenRequest {
	return wire.OpenRequest{Refs: s.Refs, Force: s.Force, Promote: s.Promote, Repair: s.Repair, Hold: s.Hold}
}

// whole is a session of a list with all of its refs; nil if it is gone.
func (r *run) whole(ctx context.Context, s wire.Session) (*wire.Session, error) {
	if s.RefCount <= len(s.Refs) {
		return &s, nil
	}
	s, err := r.client.Session(ctx, s.ID, 0)
	if client.Status(err) == http.StatusNotFound {
		return nil, nil
	}
	return &s, err
}

// resume uses the session that the user named.
func (r *run) resume(ctx context.Context, id string) error {
	err := r.retrier.Do(ctx, "resume session "+id, func() error {
		s, err := r.client.Session(ctx, id, 0)
		if client.Status(err) == http.StatusNotFound {
			return &Error{
				Exit: ExitFailed, Code: wire.NotFound, Err: fmt.Errorf("%s knows no session %s of this token", r.client.Address(), id),
				HintText: "see which there are: ostree-upload sessions --address " + hint.Word(r.client.AddressToType()) +
					"; a token that replaces another needs its name (gentoken --replace)",
			}
		}
		if err != nil {
			return err
		}
		return r.useSession(s, true)
	})
	if err != nil {
		return err
	}
	return r.takeOver(ctx, r.patience())
}

// explainLost says what to do when the server does not know the session any more that this
// push has had there.
func (r *run) explainLost(err error) error {
	var known *Error
	if client.Code(err) != wire.NotFound || r.session.ID == "" || errors.As(err, &known) {
		return err
	}
	return &Error{
		Exit: ExitFailed, Code: wire.NotFound,
		Err:      fmt.Errorf("the server does not know session %s any more, which this push has sent to: %w", r.session.ID, err),
		HintText: "push again, which opens another session: behind a load balancer the server that has this one may be down, and else its state folder was removed",
	}
}

// explainToken says how a push goes on whose token ended: another token of the same
// name finds the session and what has arrived.
func (r *run) explainToken(err error) error {
	if client.Code(err) != wire.Unauthorized || r.session.ID == "" {
		return err
	}
	return hint.Add(err, "session %s belongs to the token's name, not to the token: renew it on the server with ostree-upload gentoken --replace --name %s, then go on with: %s",
		r.session.ID, r.session.Token, r.resumeCommand())
}

// useSession makes s the session of this push; it may be repeated.
func (r *run) useSession(s wire.Session, resumed bool) error {
	r.session, r.refs, r.resumed = s, s.Refs, resumed
	r.progress.resumed(s)
	switch s.State {
	case wire.Failed, wire.Aborted, wire.Expired, wire.Rejected:
		return closedError(s)
	case wire.Open:
		if err := r.checkCommits(s); err != nil {
			return err
		}
		if err := r.checkNotMoved(s); err != nil {
			return err
		}
	}
	r.announce(s, resumed)
	return nil
}

// announce tells the session's ID to the caller, once for each session.
func (r *run) announce(s wire.Session, resumed bool) {
	if r.announced {
		return
	}
	r.announced = true
	if r.opt.OnSession != nil {
		r.opt.OnSession(s, resumed)
	}
}

// closedError is the error of a session that ended unpublished.
func closedError(s wire.Session) error {
	e := &Error{Exit: ExitFailed, Code: s.Error, Err: fmt.Errorf("session %s is %s", s.ID, s.State)}
	if s.Detail != "" {
		e.Err = fmt.Errorf("session %s is %s: %s", s.ID, s.State, s.Detail)
	}
	e.HintText = "push again without --resume"
	return e
}

// checkNotMoved refuses a session whose refs have moved meanwhile, as the server
// would once all bytes have arrived. Refs that the server does not list are left
// to it.
func (r *run) checkNotMoved(s wire.Session) error {
	for _, ref := range s.Refs {
		there, listed := r.serverRefs[ref.Ref]
		if !listed || there.Commit == ref.Old {
			continue
		}
		return &Error{
			Exit: ExitRefused, Code: wire.RefMoved,
			Err:      fmt.Errorf("ref %s is at %s, session %s expected %s", ref.Ref, there.Commit, s.ID, cmp.Or(ref.Old, "no commit")),
			HintText: "someone else pushed first; rebuild on top of it and push again without --resume",
		}
	}
	return nil
}

// checkCommits checks that this repository has what the session is to publish.
func (r *run) checkCommits(s wire.Session) error {
	for _, ref := range s.Refs {
		commit, err := ostree.ParseChecksum(ref.New)
		if err != nil {
			return fmt.Errorf("session %s, ref %s: %w", s.ID, ref.Ref, err)
		}
		ok, err := r.repo.Has(ostree.Name{Checksum: commit, Type: ostree.CommitObject})
		if err != nil {
			return err
		}
		if !ok {
			err := fmt.Errorf("session %s is for commit %s of ref %s, which repository %s does not have", s.ID, ref.New, ref.Ref, r.opt.Repo)
			return hint.Add(err, "resume it from the repository that it was opened from")
		}
	}
	return nil
}
