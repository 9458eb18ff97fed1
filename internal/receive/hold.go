// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// publishSession is POST /api/v1/sessions/{id}/publish. It only starts, as finalize does.
func (s *Server) publishSession(w http.ResponseWriter, r *request) error {
	if r.session.State == journal.Held {
		session, err := s.cfg.Publisher.Publish(r.session.ID, r.token.Name)
		if err != nil {
			return err
		}
		s.event(r, "publish asked", "opener", session.Token, "ref", session.RefList(), "age", session.Age(time.Now()))
	} else if err := s.notHeld(r); err != nil {
		return err
	}
	return s.answerWhole(w, http.StatusAccepted, r.session.ID)
}

// notHeld refuses what only a held session allows. One that is being published, or was,
// has what was asked for.
func (s *Server) notHeld(r *request) error {
	now := r.session
	if now.By != "" && !slices.Contains([]journal.State{journal.Declined, journal.Failed, journal.Aborted}, now.State) {
		return nil
	}
	return wire.Errorf(wire.SessionClosed, "session %s is %s, and not held", now.ID, now.State).
		WithHint("ostree-upload sessions --status held lists those that are")
}

// rejectSession is POST /api/v1/sessions/{id}/reject.
func (s *Server) rejectSession(w http.ResponseWriter, r *request) error {
	var req wire.Rejection
	if err := decode(r, &req); err != nil {
		return err
	}
	if req.Reason == "" || len(req.Reason) > wire.MaxReason {
		return wire.Errorf(wire.BadRequest, "a rejection needs a reason, of at most %d bytes", wire.MaxReason)
	}
	if r.session.State != journal.Held {
		return wire.Errorf(wire.SessionClosed, "session %s is %s, and not held", r.session.ID, r.session.State).
			WithHint("only what is held can be rejected; to end another session, abort it")
	}
	session, err := s.cfg.Publisher.Reject(r.session.ID, r.token.Name, req.Reason)
	if err != nil {
		return err
	}
	s.event(r, "session rejected", "opener", session.Token, "ref", session.RefList(), "reason", req.Reason, "age", session.Age(time.Now()))
	return s.answerWhole(w, http.StatusOK, session.ID)
}

// reviews gives a session that the token may see because it may have it published, nil if
// it may not.
func (s *Server) reviews(t *token.Token, id string) (*journal.Session, error) {
	if !t.May(token.Publish) {
		return nil, nil
	}
	session, err := s.cfg.Journal.Session(id)
	if err != nil || !session.Hold || t.CheckPublish(session.RefNames()) != nil {
		return nil, err
	}
	return &session, nil
}

// seesHeld tells whether a list is one of held sessions, of which the token sees those that
// it may have published.
func (s *Server) seesHeld(t *token.Token, q journal.Query) bool {
	return q.State == journal.Held && t.May(token.Publish)
}

// reviewed leaves of a page those that the token may see.
func (s *Server) reviewed(t *token.Token, page []journal.Session) (seen []journal.Session, err error) {
	for i := range page {
		may := page[i].Token == t.Name
		if !may {
			whole, err := s.reviews(t, page[i].ID)
			if err != nil && !errors.Is(err, journal.ErrNotFound) {
				return nil, err
			}
			may = whole != nil
		}
		if may {
			seen = append(seen, page[i])
		}
	}
	return seen, nil
}

// findBefore is an error unless the session that a page begins behind may be seen.
func (s *Server) findBefore(r *request, q journal.Query) error {
	if mine, err := s.reviews(r.token, q.Before); err == nil && mine != nil && s.seesHeld(r.token, q) {
		return nil
	}
	return s.find(r, q.Before)
}
