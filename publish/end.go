// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/journal"
)

// end brings a session to a final state and lets go of what it held. The state
// comes first: what a crash leaves of the rest, Recover lets go of.
func (p *Publisher) end(id string, to journal.State, change func(*journal.Session), follow ...journal.Ask) (s journal.Session, err error) {
	err = fault.Point("end a session", func() error {
		s, err = p.cfg.Journal.Move(id, to, change, follow...)
		return err
	})
	if err != nil {
		return s, err
	}
	p.previews.forget(id)
	return s, p.release(id)
}

// undo has the refs of a session that is refused be where they were before it, and tells
// whether that is to be tried again: the session does not end before.
func (p *Publisher) undo(ctx context.Context, s *journal.Session, o *Outcome) (again bool, err error) {
	stay, err := p.production.undo(ctx, s)
	if len(stay) > 0 {
		o.Detail = shortened(fmt.Sprintf("%s; by then this push had moved %s, and others have built on that or removed the commit before", o.Detail, strings.Join(stay, ", ")))
	}
	if err == nil || ctx.Err() != nil { // after a stop the next start goes on
		return err != nil, nil
	}
	p.log(s).Warn("refs that have moved cannot go back now, trying again", "ref", s.RefList(), "err", err)
	return true, p.waits(s.ID, shortened(fmt.Sprintf("moves its refs back, as not all of them can move (%s); that is tried again: %v", o.Detail, err)))
}

// release lets go of the object set and the uploads of a session that has ended.
// Releasing twice is not an error.
func (p *Publisher) release(id string) error {
	p.repairs.forget(id)
	if err := fault.Point("release the object set", func() error { return p.cfg.Journal.Release(id) }); err != nil {
		return err
	}
	return fault.Point("drop the uploads", func() error { return p.cfg.Drop(id) })
}

// Abort ends a session that is open, verifying or held. *journal.StateError if it is
// none of these.
func (p *Publisher) Abort(id string) (journal.Session, error) {
	return p.end(id, journal.Aborted, nil)
}

// Expire ends the open and held sessions whose time is over, unless bytes arrived
// within it: active tells when that was last.
func (p *Publisher) Expire(now time.Time, active func(session string) (time.Time, error)) error {
	idle, err := p.cfg.Journal.Live(func(s *journal.Session) bool {
		return (s.State == journal.Open || s.State == journal.Held) && s.Expires.Before(now)
	})
	if err != nil {
		return err
	}
	for _, s := range idle {
		last, err := active(s.ID)
		if err != nil {
			return err
		}
		if ttl := s.Expires.Sub(s.Updated); s.State == journal.Open && last.Add(ttl).After(now) {
			continue
		}
		_, err = p.end(s.ID, journal.Expired, nil)
		if closed := new(journal.StateError); errors.As(err, &closed) {
			continue // finalized just now
		}
		if err != nil {
			return err
		}
		p.log(&s).Info("session expired", "ref", s.RefList(), "objects", s.Counts.Staged, "bytes", s.Counts.Received, "age", s.Age(now), "updated", s.Updated)
	}
	return nil
}
