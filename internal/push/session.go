// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// living are the states in which a session may still be of use. Two of them are
// past sending: whoever finalized it died before the outcome.
var living = []string{wire.Open, wire.Verifying, wire.Publishing}

// begin finds our session like open that was created after a time, or opens one.
// The search is part of what is repeated: so a session whose opening was answered
// into the void is found.
func (r *run) begin(ctx context.Context, open wire.OpenRequest, after time.Time) error {
	return r.patience.call(ctx, "open a session", func() error {
		found, err := r.find(ctx, open, after)
		if err != nil {
			return err
		}
		if found != nil {
			return r.enter(ctx, *found, true)
		}
		s, err := r.client.OpenSession(ctx, open)
		if err != nil {
			return err
		}
		return r.enter(ctx, s, false)
	})
}

// find looks for a living session for the same refs and commits.
func (r *run) find(ctx context.Context, open wire.OpenRequest, after time.Time) (*wire.Session, error) {
	for _, state := range living {
		sessions, err := r.client.OwnSessions(ctx, state)
		if err != nil {
			return nil, err
		}
		for i, s := range sessions {
			if s.Force == open.Force && s.State == state && s.Created.After(after) && sameMoves(s.Refs, open.Refs) {
				return &sessions[i], nil
			}
		}
	}
	return nil, nil
}

func sameMoves(a, b []wire.Ref) bool {
	byName := func(x, y wire.Ref) int { return cmp.Compare(x.Ref, y.Ref) }
	return slices.Equal(slices.SortedFunc(slices.Values(a), byName), slices.SortedFunc(slices.Values(b), byName))
}

// take enters the session that the user named.
func (r *run) take(ctx context.Context, id string) error {
	return r.patience.call(ctx, "resume session "+id, func() error {
		s, err := r.client.Session(ctx, id, 0)
		if status(err) == http.StatusNotFound {
			return &Error{
				Exit: ExitFailed, Code: wire.NotFound, Err: fmt.Errorf("%s knows no session %s of this token", r.client.Address(), id),
				HintText: "see which there are: ostree-upload sessions --address " + quoted(r.client.Address()),
			}
		}
		if err != nil {
			return err
		}
		return r.enter(ctx, s, true)
	})
}

// enter makes s the session of this push; it may be repeated.
func (r *run) enter(ctx context.Context, s wire.Session, resumed bool) error {
	r.result.Session, r.result.Refs, r.result.Resumed = s, s.Refs, resumed
	r.sender.session = s.ID
	switch s.State {
	case wire.Failed, wire.Aborted, wire.Expired:
		return r.closed(s)
	case wire.Open:
		if err := r.haveCommits(s); err != nil {
			return err
		}
		if err := r.notMoved(s); err != nil {
			return err
		}
	}
	r.announce(s, resumed)
	if !resumed || s.State != wire.Open {
		return nil
	}
	err := r.client.Salvage(ctx, s.ID)
	if status(err) == http.StatusNotFound || status(err) == http.StatusMethodNotAllowed {
		return nil // an older server; whole objects of cut packs are sent again
	}
	return err
}

// announce tells the session's ID as soon as there is one, once for each session.
func (r *run) announce(s wire.Session, resumed bool) {
	if r.announced {
		return
	}
	r.announced = true
	if r.opt.OnSession != nil {
		r.opt.OnSession(s, resumed)
	}
}

// closed is the error of a session that nothing more comes of.
func (r *run) closed(s wire.Session) error {
	e := &Error{Exit: ExitFailed, Code: s.Error, Err: fmt.Errorf("session %s is %s", s.ID, s.State)}
	if s.Detail != "" {
		e.Err = fmt.Errorf("session %s is %s: %s", s.ID, s.State, s.Detail)
	}
	e.HintText = "push again without --resume"
	return e
}

// notMoved refuses a session for refs that are elsewhere by now, as the server
// would after all the bytes. Of refs that it does not list, it decides itself.
func (r *run) notMoved(s wire.Session) error {
	for _, ref := range s.Refs {
		there, listed := r.theirs[ref.Ref]
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

// haveCommits checks that this repository has what the session is to publish.
func (r *run) haveCommits(s wire.Session) error {
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
			return &Error{
				Exit:     ExitFailed,
				Err:      fmt.Errorf("session %s is for commit %s of ref %s, which repository %s does not have", s.ID, ref.New, ref.Ref, r.opt.Repo),
				HintText: "resume it from the repository that it was opened from",
			}
		}
	}
	return nil
}
