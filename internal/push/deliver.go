// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// maxRounds is how many times objects are sent again before giving up on them.
const maxRounds = 3

// publish brings the session from whatever state it is in to published.
func (r *run) publish(ctx context.Context) error {
	have := r.have()
	for {
		err := r.advance(ctx, have)
		if client.Code(err) == wire.SessionClosed {
			err = r.closedMeanwhile(ctx, err)
		}
		if err != nil {
			return err
		}
		s := r.session
		if s.State == wire.Published || s.State == wire.Held {
			r.abortReplaced(ctx)
			r.countRepaired()
			return nil
		}
		if s.State != wire.Open {
			return outcomeError(s)
		}
		if err := r.prepareRound(ctx, s); err != nil {
			return err
		}
		if !r.repairs() {
			have = nil // the server's copy of a commit was not complete
		}
	}
}

// advance delivers an open session's objects and waits for its outcome.
func (r *run) advance(ctx context.Context, have map[ostree.Checksum]bool) error {
	for r.session.State == wire.Open {
		err := r.deliver(ctx, have)
		if errors.Is(err, client.ErrTakenOver) {
			if err := r.giveWay(ctx); err != nil {
				return err
			}
			continue
		}
		if err == nil {
			err = r.finalize(ctx)
		}
		if err != nil {
			return err
		}
		break
	}
	return r.await(ctx)
}

// deliver sends until the server lacks nothing of what the commits need.
func (r *run) deliver(ctx context.Context, have map[ostree.Checksum]bool) error {
	if err := r.checkCommits(r.session); err != nil {
		return err
	}
	src, err := r.objects(r.refs, have)
	if err != nil {
		return err
	}
	for {
		sent, err := r.transfer(ctx, src)
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
		r.opt.Log.Warn("the server rejected objects", "session", r.session.ID, "objects", len(rejected))
		if err := r.countRound(ctx, rejected, "rejected"); err != nil {
			return err
		}
		src = listSource(rejected)
	}
}

// countRound allows one more round of sending objects, unless they are damaged
// here, the server rejects one again for the same reason, or there were too many
// rounds.
func (r *run) countRound(ctx context.Context, objects []ostree.Name, fate string) error {
	if err := r.verifyLocal(ctx, objects); err != nil {
		return err
	}
	before := r.rejected
	if err := r.readReasons(ctx); err != nil {
		return err
	}
	for _, n := range objects {
		reason := r.rejected[n]
		again := reason != "" && reason == before[n] && !changed(reason)
		if again || reason != "" && r.rounds >= maxRounds {
			return r.rejectedError(ctx, n, reason, len(objects)-1)
		}
	}
	if r.rounds >= maxRounds {
		return &Error{
			Exit: ExitFailed, Code: wire.BadObjects,
			Err:      fmt.Errorf("the server %s %d objects %d times, and they are intact here: %s", fate, len(objects), maxRounds+1, firstFew(objects)),
			HintText: "the session may say more: ostree-upload sessions show " + r.session.ID,
		}
	}
	r.rounds++
	return nil
}

// readReasons keeps why the server rejected objects.
func (r *run) readReasons(ctx context.Context) error {
	if err := r.refresh(ctx); err != nil {
		return err
	}
	r.rejected = map[ostree.Name]string{}
	for _, p := range r.session.Problems {
		if n, err := ostree.ParseName(p.Object); err == nil && p.Code != wire.MissingObjects {
			r.rejected[n] = p.Reason
		}
	}
	return nil
}

// changed tells whether the server found other bytes than have the object's name.
// They have it here, so that bytes were changed on the way.
func changed(reason string) bool { return strings.Contains(reason, "checksum is ") }

// rejectedError is the error of an object that is intact here and that the server
// does not take.
func (r *run) rejectedError(ctx context.Context, n ostree.Name, reason string, others int) error {
	err := fmt.Errorf("the server rejected %s: %s", r.describe(ctx, n), reason)
	if others > 0 {
		err = fmt.Errorf("%w; it rejected %d other objects, too", err, others)
	}
	e := &Error{Exit: ExitFailed, Code: wire.BadObjects, Err: err, HintText: "see all reasons: ostree-upload sessions show " + r.session.ID}
	if changed(reason) {
		e.HintText = "the object is intact here: something between here and the server changes bytes; see: ostree-upload sessions show " + r.session.ID
	}
	return e
}

// verifyLocal checks objects of the build repository as the server would.
func (r *run) verifyLocal(ctx context.Context, objects []ostree.Name) error {
	v := ostree.NewVerifier(0)
	v.LimitMetadata(ostree.MaxMetadata)
	for _, n := range objects {
		if err := r.verifyObject(ctx, v, n); err != nil {
			return r.objectError(ctx, n, err)
		}
	}
	return nil
}

func (r *run) verifyObject(ctx context.Context, v *ostree.Verifier, n ostree.Name) error {
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
