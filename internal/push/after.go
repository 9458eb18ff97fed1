// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/wire"
)

// Between two questions how the works stand is at least and at most so much time: no
// answer waits for them.
const (
	firstAsk  = 250 * time.Millisecond
	latestAsk = 5 * time.Second
)

// follow waits for what follows the publishes of this push, if that is asked for.
func (r *run) follow(ctx context.Context) error {
	if !r.opt.WaitAfter || r.opt.DryRun {
		return nil
	}
	err := r.awaitWorks(ctx)
	known := new(Error)
	if err == nil || errors.As(err, &known) && known.Code == WorksDue {
		return err
	}
	e := ended(ctx, err, "")
	e.HintText = "all is published, only what is to follow was waited for; " + r.worksHint(cmp.Or(r.session.ID, "SESSION"))
	return e
}

// awaitWorks waits until what follows the publishes of this push is done. That may take
// as long as the server likes; only what fails without end is given up.
func (r *run) awaitWorks(ctx context.Context) error {
	r.progress.Set(Following)
	ids, err := r.followed(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := r.awaitWorksOf(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// followed are the sessions whose works are waited for: those of this push or, if there
// was nothing to do, those of earlier ones that brought what is there.
func (r *run) followed(ctx context.Context) (ids []string, err error) {
	switch {
	case !r.nothingToDo && len(r.sessions) > 0:
		return r.sessions, nil
	case !r.nothingToDo:
		return []string{r.session.ID}, nil
	}
	err = r.retrier.Do(ctx, "look for sessions", func() error {
		published, err := r.client.OwnSessions(ctx, wire.Published, "")
		for _, s := range published {
			if s.State == wire.Published && len(s.Following()) > 0 && brought(s, r.locals) {
				ids = append(ids, s.ID)
			}
		}
		return err
	})
	return ids, err
}

// brought tells whether a session of a list moved a ref to what it names here.
func brought(s wire.Session, locals map[string]local) bool {
	for _, ref := range s.Refs {
		if l, is := locals[ref.Ref]; is && l.commit.String() == ref.New {
			return true
		}
	}
	return false
}

func (r *run) awaitWorksOf(ctx context.Context, id string) error {
	var failing time.Time // since when some work has failed; zero if none has
	told := map[string]string{}
	for pause := firstAsk; ; pause = min(2*pause, latestAsk) {
		left, err := r.askWorks(ctx, id)
		if err != nil || len(left) == 0 {
			return err
		}
		failed := r.tellFailed(left, told)
		switch {
		case failed == nil:
			failing = time.Time{}
		case failing.IsZero():
			failing = time.Now()
		}
		if failed != nil && time.Since(failing) >= r.opt.RetryFor {
			return &Error{
				Exit: ExitForNow, Code: WorksDue, Err: fmt.Errorf("all is published, but what is to follow fails: %s: %s", failed.Work, failed.Error),
				HintText: r.worksHint(id),
			}
		}
		if err := client.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// askWorks asks which works of a session are to be waited for.
func (r *run) askWorks(ctx context.Context, id string) (left []wire.After, err error) {
	err = r.retrier.Do(ctx, "ask for session "+id, func() error {
		s, err := r.client.Session(ctx, id, 0)
		if err != nil {
			return err
		}
		if s.ID == r.session.ID {
			r.session = s
		}
		left = s.Following()
		r.progress.waitsFor(left)
		return nil
	})
	return left, err
}

// tellFailed returns a work that has failed, if there is one, and logs each failure when
// it is new.
func (r *run) tellFailed(left []wire.After, told map[string]string) (failed *wire.After) {
	for i, a := range left {
		if a.State != wire.WorkFailed {
			continue
		}
		failed = &left[i]
		if told[a.Work] != a.Error {
			told[a.Work] = a.Error
			r.opt.Log.Warn("what is to follow failed; the server will try it again", "work", a.Work, "err", a.Error)
		}
	}
	return failed
}

// worksHint is how to see what becomes of works that are not waited for any more.
func (r *run) worksHint(id string) string {
	return fmt.Sprintf("the server goes on with it; see how it stands: %s sessions show %s --address %s",
		cmp.Or(r.opt.Program, "ostree-upload"), id, hint.Word(r.client.AddressToType()))
}

// waitsFor notes the works that are waited for.
func (p *Progress) waitsFor(left []wire.After) {
	if note := Works(left); note != "" {
		p.note.Store(&note)
	}
}

// Works lists works in words, each with why it failed if it did.
func Works(all []wire.After) string {
	var each []string
	for _, a := range all {
		text := a.Work
		if a.State == wire.WorkFailed {
			text += " (failed: " + a.Error + ")"
		}
		each = append(each, text)
	}
	return strings.Join(each, ", ")
}
