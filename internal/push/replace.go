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
	walk, err := r.objects(r.refs, nil)
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

// replaceSession opens another session for the same refs, since old waits for
// objects that this push does not send: the server wants each commit that a
// session has sent whole. What old staged counts for the new session once that
// has named it, so old stays open until the end. A session that an earlier run
// opened for this is used again.
func (r *run) replaceSession(ctx context.Context, old wire.Session, strays []ostree.Name) error {
	if r.replaced != "" {
		return &Error{
			Exit: ExitFailed, Code: old.Error,
			Err:      fmt.Errorf("%s; this push does not send %s", outcome(old), firstFew(strays)),
			HintText: "push from a repository that has all of the history, and without --depth",
		}
	}
	r.announced = false
	r.rounds++
	if err := r.openSession(ctx, openOf(old), old.Created); err != nil {
		return err
	}
	r.replaced = old.ID
	r.opt.Log.Warn("the session waits for an object that this push does not send: going on in another session",
		"session", old.ID, "object", strays[0], "another", r.session.ID)
	return nil
}

// abortReplaced ends the session that this push replaced by one that is published
// now. If that fails, the push has succeeded all the same.
func (r *run) abortReplaced(ctx context.Context) {
	if r.replaced == "" {
		return
	}
	err := r.retrier.Do(ctx, "abort session "+r.replaced, func() error {
		_, err := r.client.Abort(ctx, r.replaced)
		return err
	})
	if err != nil {
		r.opt.Log.Warn("could not abort a session that is no longer needed", "session", r.replaced, "err", err)
	}
}
