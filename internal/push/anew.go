// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"fmt"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// strays are the objects among a session's problems that this push does not
// send. An earlier run brought a parent without all of its tree, and the parent
// is not walked now: it was pruned here, or --depth leaves it out.
func (r *run) strays(ctx context.Context, problems []wire.ObjectProblem) ([]ostree.Name, error) {
	ours := map[ostree.Name]bool{}
	names := problemNames(problems)
	for _, n := range names {
		ours[n] = false
	}
	walk, err := r.objects(nil)
	if err != nil {
		return nil, err
	}
	err = walk(ctx, func(n ostree.Name) error {
		if _, asked := ours[n]; asked {
			ours[n] = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var strays []ostree.Name
	for _, n := range names {
		if !ours[n] {
			strays = append(strays, n)
		}
	}
	return strays, nil
}

// anew goes on in another session for the same refs, since old waits for
// objects that do not come: the server wants each commit that a session has sent
// whole. What old staged counts for the new session once that has named it, so
// old is left open until the end. One that an earlier run opened for this is
// taken up.
func (r *run) anew(ctx context.Context, old wire.Session, strays []ostree.Name) error {
	if r.left != "" {
		return &Error{
			Exit: ExitFailed, Code: old.Error,
			Err:      fmt.Errorf("%s; this push does not send %s", outcome(old), some(strays)),
			HintText: "push from a repository that has all of the history, and without --depth",
		}
	}
	r.announced = false
	r.result.Rounds++
	if err := r.begin(ctx, wire.OpenRequest{Refs: old.Refs, Force: old.Force}, old.Created); err != nil {
		return err
	}
	r.left = old.ID
	r.opt.Log.Warn("the session waits for an object that is not pushed now: going on in another one",
		"session", old.ID, "object", strays[0], "another", r.result.Session.ID)
	return nil
}

// abortLeft ends the session that this push left for another, which is
// published now. It is no fault of the push if that fails.
func (r *run) abortLeft(ctx context.Context) {
	if r.left == "" {
		return
	}
	err := r.patience.call(ctx, "abort session "+r.left, func() error {
		_, err := r.client.Abort(ctx, r.left)
		return err
	})
	if err != nil {
		r.opt.Log.Warn("a session that is of no more use stays open", "session", r.left, "err", err)
	}
}
