// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"errors"
	"time"

	"github.com/lirios/ostree-upload/journal"
)

// Expire ends the open sessions whose time is over, unless bytes arrived within
// it: active tells when that was last.
func (p *Publisher) Expire(now time.Time, active func(session string) (time.Time, error)) error {
	idle, err := p.cfg.Journal.Sessions(func(s *journal.Session) bool {
		return s.State == journal.Open && s.Expires.Before(now)
	})
	if err != nil {
		return err
	}
	for _, s := range idle {
		last, err := active(s.ID)
		if err != nil {
			return err
		}
		if ttl := s.Expires.Sub(s.Updated); last.Add(ttl).After(now) {
			continue
		}
		var closed *journal.StateError
		_, err = p.cfg.Journal.Move(s.ID, journal.Expired, nil)
		if errors.As(err, &closed) {
			continue // finalized just now
		}
		if err != nil {
			return err
		}
		p.cfg.Log.Info("session expired", "session", s.ID, "token", s.Token, "updated", s.Updated)
		if err := p.end(s.ID); err != nil {
			return err
		}
	}
	return nil
}
