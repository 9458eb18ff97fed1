// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"errors"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/journal"
)

// A session that is to be held goes through all that comes before its publish, and stays
// there. Whoever has it published sends it through all of that once more, but for the
// check of the operator's program: its refs may have moved meanwhile, and keys may have
// been revoked. Then it stays held, and can be published once that is mended.

// errHeld ends the publish of a session that waits for somebody to have it published.
var errHeld = errors.New("the session is held")

// toBeHeld tells whether nobody has had a session published that waits for that.
func toBeHeld(s *journal.Session) bool { return s.Hold && s.By == "" }

// hold records that a session is verified and complete, and waits.
func (p *Publisher) hold(id string, warnings []string) error {
	s, err := p.cfg.Journal.Move(id, journal.Held, func(s *journal.Session) {
		s.Error, s.Detail = "", strings.Join(warnings, "; ")
		s.Expires = time.Now().Add(p.cfg.HoldTTL())
	})
	if err == nil {
		p.log(&s).Info("held", "ref", s.RefList(), "objects", s.Counts.Staged, "bytes", s.Counts.Received, "age", s.Age(time.Now()))
	}
	return err
}

// holdAgain records why a session that was held is not published.
func (p *Publisher) holdAgain(id, code, detail string) error {
	_, err := p.cfg.Journal.Move(id, journal.Held, func(s *journal.Session) {
		s.Error, s.Detail, s.By = code, detail, ""
	})
	return err
}

// Publish has a held session published, by the token of a name. *journal.StateError if it
// is not held.
func (p *Publisher) Publish(id, by string) (journal.Session, error) {
	s, err := p.cfg.Journal.MoveFrom(id, journal.Held, journal.Verifying, func(s *journal.Session) {
		s.Error, s.Detail, s.By = "", "", by
	})
	if err == nil {
		p.previews.forget(id) // objects may come anew before it is held again
		p.Enqueue()
	}
	return s, err
}

// Reject ends a held session for a reason. *journal.StateError if it is not held.
func (p *Publisher) Reject(id, by, reason string) (journal.Session, error) {
	return p.end(id, journal.Declined, func(s *journal.Session) {
		s.Error, s.Detail, s.By = "", reason, by
	})
}
