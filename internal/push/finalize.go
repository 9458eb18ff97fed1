// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

const (
	maxRounds = 3 // times that objects are sent again before giving up on them
	quotedMax = 3 // objects that an error names; the session has more
	longWait  = 30 * time.Second
)

// publish brings the session from whatever state it is in to published.
func (r *run) publish(ctx context.Context) error {
	have := r.have()
	for {
		err := r.advance(ctx, have)
		if code(err) == wire.SessionClosed {
			err = r.lookAgain(ctx, err)
		}
		if err != nil {
			return err
		}
		s := r.result.Session
		if s.State == wire.Published {
			r.abortLeft(ctx)
			return nil
		}
		if s.State != wire.Open {
			return r.failed(s)
		}
		if err := r.reopened(ctx, s); err != nil {
			return err
		}
		have = nil // a commit of the server's was not as complete as its ref said
	}
}

// advance delivers an open session's objects and waits for its outcome.
func (r *run) advance(ctx context.Context, have map[ostree.Checksum]bool) error {
	if r.result.Session.State == wire.Open {
		if err := r.deliver(ctx, have); err != nil {
			return err
		}
		if err := r.finalize(ctx); err != nil {
			return err
		}
	}
	return r.await(ctx)
}

// deliver sends until the server lacks nothing of what the commits need.
func (r *run) deliver(ctx context.Context, have map[ostree.Checksum]bool) error {
	if err := r.haveCommits(r.result.Session); err != nil {
		return err
	}
	src, err := r.objects(have)
	if err != nil {
		return err
	}
	for {
		sent, err := r.pump(ctx, src)
		if err != nil {
			return err
		}
		rejected, err := r.recheck(ctx, src, sent)
		if err != nil {
			return err
		}
		if len(rejected) == 0 {
			return nil
		}
		r.opt.Log.Warn("the server rejected objects", "session", r.result.Session.ID, "objects", len(rejected))
		if err := r.another(ctx, rejected, "rejected"); err != nil {
			return err
		}
		src = listed(rejected)
	}
}

// another allows one more round of sending objects, unless they are damaged
// here or there were too many rounds.
func (r *run) another(ctx context.Context, objects []ostree.Name, fate string) error {
	if err := r.verifyOwn(ctx, objects); err != nil {
		return err
	}
	if r.result.Rounds >= maxRounds {
		return &Error{
			Exit: ExitFailed, Code: wire.BadObjects,
			Err:      fmt.Errorf("the server %s %d objects %d times, and they are sound here: %s", fate, len(objects), maxRounds+1, some(objects)),
			HintText: "something between here and the server changes bytes; see ostree-upload sessions show " + r.result.Session.ID,
		}
	}
	r.result.Rounds++
	return nil
}

// verifyOwn checks objects of the build repository as the server would.
func (r *run) verifyOwn(ctx context.Context, objects []ostree.Name) error {
	v := ostree.NewVerifier(0)
	for _, n := range objects {
		if err := r.verifyOne(ctx, v, n); err != nil {
			return r.unreadable(n, err)
		}
	}
	return nil
}

func (r *run) verifyOne(ctx context.Context, v *ostree.Verifier, n ostree.Name) error {
	o, err := r.repo.Object(ctx, n)
	if err != nil {
		return err
	}
	f, err := o.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = v.Verify(n, f)
	return err
}

// damaged is the error of an object that is bad at its source.
func (r *run) damaged(n ostree.Name, reason string) error {
	return &Error{
		Exit: ExitFailed, Code: wire.BadObjects,
		Err:      fmt.Errorf("object %s in the build repository is damaged: %s", n, reason),
		HintText: r.checkHint(),
	}
}

// finalize asks for verification and publishing.
func (r *run) finalize(ctx context.Context) error {
	return r.patience.call(ctx, "finalize session "+r.result.Session.ID, func() error {
		s, err := r.client.Finalize(ctx, r.result.Session.ID)
		if err == nil {
			r.stands(s)
		}
		return err
	})
}

// stands takes over what the server says of the session.
func (r *run) stands(s wire.Session) {
	r.result.Session = s
	switch s.State {
	case wire.Verifying:
		r.progress.Set(Verifying)
	case wire.Publishing:
		r.progress.Set(Publishing)
	}
}

// await waits until the session is neither verifying nor publishing. The waits
// grow: the outcome may fall between an answer and the next question.
func (r *run) await(ctx context.Context) error {
	if r.lastByte.IsZero() {
		r.lastByte = time.Now()
	}
	defer func() { r.result.Seconds.Finalize = since(r.lastByte) }()
	r.stands(r.result.Session)
	id := r.result.Session.ID
	for wait := time.Second; ; wait = min(2*wait, longWait) {
		if st := r.result.Session.State; st != wire.Verifying && st != wire.Publishing {
			return r.look(ctx)
		}
		err := r.patience.call(ctx, "wait for session "+id, func() error {
			s, err := r.client.Session(ctx, id, wait)
			if err == nil {
				r.stands(s)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
}

// look reads the session as it is now, with its problems.
func (r *run) look(ctx context.Context) error {
	id := r.result.Session.ID
	return r.patience.call(ctx, "ask for session "+id, func() error {
		s, err := r.client.Session(ctx, id, 0)
		if err == nil {
			r.result.Session = s
		}
		return err
	})
}

// lookAgain deals with a session that closed under us: another client of it may
// have finalized it, and its outcome is ours.
func (r *run) lookAgain(ctx context.Context, closed error) error {
	if err := r.look(ctx); err != nil {
		return err
	}
	if r.result.Session.State == wire.Open { // it was closed and is open again
		return closed
	}
	return r.await(ctx)
}

// failed is the error of a session that ended unpublished.
func (r *run) failed(s wire.Session) error {
	if s.State != wire.Failed {
		return r.closed(s)
	}
	e := &Error{Exit: ExitFailed, Code: s.Error, Err: errors.New(outcome(s))}
	if refusals[s.Error] {
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

// reopened decides whether another round can help a session that went back to
// open instead of being published.
func (r *run) reopened(ctx context.Context, s wire.Session) error {
	switch s.Error {
	case wire.InsufficientStorage:
		return &Error{Exit: ExitForNow, Code: s.Error, Err: errors.New(outcome(s))}
	case wire.MissingObjects, wire.BadObjects:
		strays, err := r.strays(ctx, s.Problems)
		if err != nil {
			return err
		}
		if len(strays) > 0 {
			return r.anew(ctx, s, strays)
		}
		r.opt.Log.Warn("the server lacks objects", "session", s.ID, "code", s.Error, "objects", len(s.Problems))
		return r.another(ctx, problemNames(s.Problems), "missed or rejected")
	}
	if r.result.Rounds >= maxRounds {
		return &Error{Exit: ExitForNow, Code: s.Error, Err: errors.New(outcome(s))}
	}
	r.result.Rounds++
	return nil
}

// outcome says in words what came of a session.
func outcome(s wire.Session) string {
	switch {
	case s.Detail != "":
		return s.Detail
	case s.Error != "":
		return fmt.Sprintf("session %s is %s: %s", s.ID, s.State, s.Error)
	}
	return fmt.Sprintf("session %s is %s", s.ID, s.State)
}

// problemNames lists the objects of problems; what is no name is left out.
func problemNames(problems []wire.ObjectProblem) []ostree.Name {
	var names []ostree.Name
	for _, p := range problems {
		if n, err := ostree.ParseName(p.Object); err == nil {
			names = append(names, n)
		}
	}
	return slices.CompactFunc(names, func(a, b ostree.Name) bool { return a == b })
}

// some names the first few objects.
func some(objects []ostree.Name) string {
	var b strings.Builder
	for i, n := range objects[:min(len(objects), quotedMax)] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(n.String())
	}
	if len(objects) > quotedMax {
		b.WriteString(", …")
	}
	return b.String()
}
