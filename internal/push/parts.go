// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

// pushParts publishes moves in as many sessions as the server's limits ask for, one
// after the other. Another run of the same command divides what is left of them in
// the same way, and so finds the session that this one left.
func (r *run) pushParts(ctx context.Context, moves []wire.Ref) error {
	for len(moves) > 0 {
		part := moves[:fitting(moves, r.info.Limits.MaxRefs, r.opt.mostBody())]
		moves = moves[len(part):]
		if r.opt.Hold && len(moves) > 0 {
			return &Error{
				Exit: ExitFailed, Code: wire.TooLarge, HintText: "push fewer refs at a time",
				Err: fmt.Errorf("a session of this server has at most %d of these refs, and what is held has to be one session", len(part)),
			}
		}
		r.begin(part, moves)
		open, err := r.open(part)
		if err != nil {
			return err
		}
		if err := r.openSession(ctx, open, time.Time{}); err != nil {
			return err
		}
		err = r.publish(ctx)
		if r.alreadyMoved(ctx, part, err) {
			r.session, r.refs, r.later, r.resumed = wire.Session{}, nil, nil, false
			return r.push(ctx)
		}
		if err != nil {
			return err
		}
		r.published(part)
	}
	return nil
}

// open is the request that opens a session for some refs.
func (r *run) open(refs []wire.Ref) (wire.OpenRequest, error) {
	commits, err := r.signedCommits(refs)
	return wire.OpenRequest{Refs: refs, Force: r.opt.Force, Repair: r.opt.Repair, Hold: r.opt.Hold, Commits: commits}, err
}

// begin makes part the refs of the next session.
func (r *run) begin(part, later []wire.Ref) {
	if r.session.State == wire.Published {
		r.done = append(r.done, r.refs...)
	}
	r.session, r.refs, r.later = wire.Session{}, part, slices.Clone(later)
	r.announced, r.replaced, r.lastByte, r.metas = false, "", time.Time{}, 0
}

// published counts the session that is published now. What it brought is on the
// server, so that a later part need not walk it.
func (r *run) published(part []wire.Ref) {
	r.sessions = append(r.sessions, r.session.ID)
	for _, ref := range part {
		r.serverRefs[ref.Ref] = wire.RefState{Commit: ref.New}
	}
}

// fitting is how many of moves, at least one, fit into one session of most refs, 0 for
// any number, and into the request that opens it, of so many bytes.
func fitting(moves []wire.Ref, most, body int) int {
	const around = 64 // bytes of the document beside the refs
	size := around
	for i, m := range moves {
		b, err := json.Marshal(m)
		if size += len(b) + 1; i > 0 && (err != nil || size > body || most > 0 && i == most) {
			return i
		}
	}
	return len(moves)
}
