// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// SetOptions say which refs of a server to move among the commits that it has, or to
// delete. All move together or none.
type SetOptions struct {
	Server      client.Options
	Wants       []Want
	Force       bool // also to commits that do not descend from those before
	Back        bool // to what each ref was before its last move, or at an earlier one
	FollowAlias bool // move what an alias stands for
	DryRun      bool
	WaitAfter   bool

	RetryFor, FirstContact time.Duration // as of Options
	Log                    *slog.Logger  // nil: none
}

// Want is what is to become of a ref.
type Want struct {
	Ref string
	To  string // a commit, or a ref of which to take the commit; "": it is deleted or, with Back, goes one move back
}

// SetResult is what became of refs; as JSON it is what refs set and its like print.
type SetResult struct {
	Session     wire.Session `json:"session,omitzero"`
	Refs        []wire.Ref   `json:"refs"` // those that were to move
	NothingToDo bool         `json:"nothing-to-do"`
	DryRun      bool         `json:"dry-run"`
	Error       string       `json:"error,omitempty"`
	ErrorCode   string       `json:"error-code,omitempty"`
	Hint        string       `json:"hint,omitempty"`
	ExitCode    int          `json:"exit-code"`
	Request     string       `json:"request,omitempty"`
}

// SetRefs moves refs. The error is an *Error.
func SetRefs(ctx context.Context, opt SetOptions) (*SetResult, error) {
	o := Options{Server: opt.Server, Force: opt.Force || opt.Back, DryRun: opt.DryRun, WaitAfter: opt.WaitAfter, RetryFor: opt.RetryFor, FirstContact: opt.FirstContact, Log: opt.Log}
	o.fill()
	result := &SetResult{Refs: []wire.Ref{}, DryRun: opt.DryRun}
	c, err := client.Open(o.Server)
	if err == nil {
		defer c.Close()
		r := &run{opt: o, client: c, progress: o.Progress}
		r.retrier = client.NewRetrier(o.RetryFor, o.FirstContact, &r.progress.Traffic.Retries, o.Log)
		err = r.setRefs(ctx, &opt)
		result.Session, result.Refs, result.NothingToDo = r.session, append(result.Refs, r.refs...), r.nothingToDo
		if r.client.Reached() {
			result.Request = r.client.RequestID()
		}
	}
	if err == nil {
		return result, nil
	}
	e := ended(ctx, err, "")
	if result.Session.State == wire.Open || e.Code == "interrupted" && result.Session.ID != "" {
		e.HintText = cmp.Or(e.HintText, "give the same command again: it goes on with session "+result.Session.ID)
	}
	e.Request = cmp.Or(client.RequestOf(err), result.Request)
	result.Error, result.ErrorCode, result.Hint, result.ExitCode, result.Request = e.Error(), e.Code, e.HintText, e.Exit, e.Request
	return result, e
}

func (r *run) setRefs(ctx context.Context, opt *SetOptions) error {
	if err := r.fetchAllRefs(ctx); err != nil {
		return err
	}
	if err := r.fetchInfo(ctx); err != nil {
		return err
	}
	if !slices.Contains(r.info.Features, wire.FeaturePromote) {
		return &Error{
			Exit: ExitFailed, Err: fmt.Errorf("the server at %s is of an earlier version, which moves refs only when something is pushed to them", r.client.Address()),
			HintText: "have the server upgraded, or use ostree refs on its host",
		}
	}
	moves, err := r.wanted(ctx, opt)
	if err != nil {
		return err
	}
	if r.refs = moves; len(moves) == 0 {
		r.nothingToDo = true
		return nil
	}
	open := wire.OpenRequest{Refs: moves, Force: r.opt.Force, Promote: true}
	if opt.DryRun {
		return notThere(r.retrier.Do(ctx, "open a session", func() error { return r.client.CheckOpen(ctx, open) }))
	}
	return r.publishMoves(ctx, open)
}

// fetchAllRefs asks for all refs that may be named: where commits are taken from as well.
func (r *run) fetchAllRefs(ctx context.Context) error {
	return r.retrier.Do(ctx, "fetch refs", func() error {
		list, err := r.client.ListRefs(ctx, client.RefQuery{All: true})
		r.serverRefs = list.Refs
		return err
	})
}

// wanted are the moves that are left to make.
func (r *run) wanted(ctx context.Context, opt *SetOptions) (moves []wire.Ref, err error) {
	given := map[string]string{} // refs that move, with what they were named
	for _, want := range opt.Wants {
		if err := CheckRef(want.Ref); err != nil {
			return nil, err
		}
		ref, err := r.named(want.Ref, opt.FollowAlias)
		if err != nil {
			return nil, err
		}
		if before, twice := given[ref]; twice {
			return nil, &Error{Exit: ExitUsage, Code: wire.BadRequest, Err: fmt.Errorf("ref %s is given twice, as %s and %s", ref, before, want.Ref), HintText: "a ref can move to one commit"}
		}
		given[ref] = want.Ref
		move := wire.Ref{Ref: ref, Old: r.serverRefs[ref].Commit}
		if move.New, err = r.target(ctx, opt, ref, want.To); err != nil {
			return nil, err
		}
		if move.New != move.Old {
			moves = append(moves, move)
		}
	}
	return moves, nil
}

// CheckRef reports what is no name of a ref, as wrong usage.
func CheckRef(ref string) error {
	if err := ostree.ValidateRef(ref); err != nil {
		return &Error{Exit: ExitUsage, Code: wire.BadRequest, Err: err, HintText: "ostree-upload refs list shows the refs of the server"}
	}
	return nil
}

// target is the commit that a ref is to name, "" if it is to be gone.
func (r *run) target(ctx context.Context, opt *SetOptions, ref, to string) (string, error) {
	switch {
	case opt.Back:
		return r.wayBack(ctx, ref, to)
	case to == "" && r.serverRefs[ref].Commit == "":
		return "", r.unknownRef(ref)
	case to == "":
		return "", nil
	}
	if _, err := ostree.ParseChecksum(to); err == nil {
		return to, nil
	}
	if there := r.serverRefs[to]; there.Commit != "" {
		return there.Commit, nil
	}
	err := r.unknownRef(to)
	err.Err = fmt.Errorf("ref %s cannot be set to %s: that is no ref of the server that this token sees, and no commit, which has 64 hex digits", ref, to)
	return "", err
}

func (r *run) unknownRef(ref string) *Error {
	return &Error{
		Exit: ExitRefused, Code: wire.NotFound, Err: fmt.Errorf("the server has no ref %s that this token sees", ref),
		HintText: "see which there are: ostree-upload refs list --address " + hint.Word(r.client.AddressToType()),
	}
}

// publishMoves opens a session that brings nothing, or goes on with one that was opened
// for the same, and waits for its outcome.
func (r *run) publishMoves(ctx context.Context, open wire.OpenRequest) error {
	err := r.retrier.Do(ctx, "open a session", func() error {
		found, err := r.findSessions(ctx, open, time.Time{})
		if err != nil {
			return err
		}
		if len(found) > 0 {
			r.session = found[0]
			return nil
		}
		r.session, err = r.client.OpenSession(ctx, open)
		return err
	})
	if err = notThere(err); err == nil {
		err = r.finalize(ctx)
	}
	if err == nil {
		err = r.await(ctx)
	}
	switch {
	case err != nil:
		return err
	case r.session.State == wire.Published:
		return r.follow(ctx)
	case r.session.State == wire.Open:
		return &Error{Exit: ExitForNow, Code: r.session.Error, Err: errors.New(outcome(r.session))}
	}
	if err = outcomeError(r.session); r.alreadySet(ctx, open.Refs, err) {
		return nil
	}
	return r.explainSet(err)
}

// notThere makes a refusal of an answer that says that a commit is not there.
func notThere(err error) error {
	if code := client.Code(err); code != wire.MissingObjects && code != wire.BadObjects {
		return err
	}
	return &Error{Exit: ExitRefused, Code: client.Code(err), Err: err, HintText: hint.Of(err)}
}

// alreadySet tells whether a session failed because its refs were moved, by an earlier
// one for the same, before it was their turn.
func (r *run) alreadySet(ctx context.Context, moves []wire.Ref, err error) bool {
	failed := new(Error)
	if !errors.As(err, &failed) || failed.Code != wire.RefMoved || r.fetchAllRefs(ctx) != nil {
		return false
	}
	return !slices.ContainsFunc(moves, func(m wire.Ref) bool { return r.serverRefs[m.Ref].Commit != m.New })
}

// explainSet says what to do about a session that moves refs and failed.
func (r *run) explainSet(err error) error {
	failed := new(Error)
	if !errors.As(err, &failed) {
		return err
	}
	switch failed.Code {
	case wire.RefMoved:
		failed.HintText = "someone else moved it meanwhile; look at ostree-upload refs log, then give the command again"
	case wire.NotFastForward:
		failed.HintText = "this would take away what the ref has; if that is what you want, add --force, or use refs rollback"
	case wire.MissingObjects, wire.BadObjects:
		failed.Exit, failed.HintText = ExitRefused, "push --repair the commit, from a repository that has it whole; ostree-upload check --content on the server tells what else is lacking"
	}
	return failed
}
