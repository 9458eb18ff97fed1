// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/wire"
)

// A rival is another push, from here or elsewhere, that sends for the same session.
// Two that send at once cut each other's uploads, so one of them sends and the other
// waits for the outcome. A push that finds a session of an earlier run cannot know
// whether that still runs, but sees whether bytes arrive.
const (
	lookEvery    = 250 * time.Millisecond
	glance       = time.Second      // silence after which no rival is taken to be there
	rivalSilence = 5 * time.Second  // the same once one was seen
	leaveTime    = 30 * time.Second // the same for one that took this push's place, and up to half as much more
)

// patience is for how long nothing has to arrive for a session of an earlier run until this
// push goes on with it.
func (r *run) patience() time.Duration {
	if r.opt.TakeOver {
		return 0 // a rival that runs finds out, and gives way
	}
	return cmp.Or(r.opt.glance, glance)
}

// takeOver makes the session of an earlier run this push's own, once no rival sends
// for it any more. The session may have its outcome then.
func (r *run) takeOver(ctx context.Context, silence time.Duration) error {
	if err := r.waitForRival(ctx, silence); err != nil || r.session.State != wire.Open {
		return err
	}
	return r.salvage(ctx)
}

// checkRival is an error that wraps client.ErrTakenOver if a rival has packs under way
// for the session. It has salvaged those of this push before.
func (r *run) checkRival(ctx context.Context) error {
	s, err := r.client.Session(ctx, r.session.ID, 0)
	if err != nil {
		return err
	}
	for _, u := range s.Uploads {
		if wire.IsPackName(u.Name) && !strings.HasPrefix(u.Name, r.packPrefix+"-") {
			return fmt.Errorf("session %s has a pack %s: %w", s.ID, u.Name, client.ErrTakenOver)
		}
	}
	return nil
}

// giveWay is for a push that finds that a rival has taken its place. If the server does
// not know the session at all, there is none.
func (r *run) giveWay(ctx context.Context) error {
	if err := r.refresh(ctx); err != nil {
		return err
	}
	r.opt.Log.Warn("another push has taken this session over: waiting for it", "session", r.session.ID)
	r.progress.Walked.Store(0) // it is walked and asked for anew, if at all
	r.progress.Lacking.Store(0)
	return r.takeOver(ctx, leaveTime+rand.N(leaveTime/2)) // #nosec G404 -- two that give way must not come back together
}

// waitForRival waits until nothing has arrived for the session for as long as
// silence, or until the session is not open any more.
func (r *run) waitForRival(ctx context.Context, silence time.Duration) error {
	most, moves, since := r.session.Bytes.Received, 0, time.Now()
	for r.session.State == wire.Open && time.Since(since) < silence {
		if err := client.Sleep(ctx, lookEvery); err != nil {
			return err
		}
		if err := r.refresh(ctx); err != nil {
			return err
		}
		got := r.session.Bytes.Received
		if got <= most {
			continue
		}
		most, since = got, time.Now()
		// Once may be the rest of a run that was killed.
		if moves++; moves == 2 {
			silence = max(silence, rivalSilence)
			r.opt.Log.Warn("another push is sending for this session: waiting for its outcome (--take-over takes its place)", "session", r.session.ID)
		}
	}
	return nil
}

// salvage has the server keep what is whole of the packs that an earlier run did not
// finish.
func (r *run) salvage(ctx context.Context) error {
	return r.retrier.Do(ctx, "resume session "+r.session.ID, func() error {
		err := r.client.Salvage(ctx, r.session.ID)
		if status := client.Status(err); status == http.StatusNotFound || status == http.StatusMethodNotAllowed {
			return nil // an older server: whole objects of packs that were cut off are sent again
		}
		return err
	})
}
