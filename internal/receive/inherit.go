// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"errors"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/journal"
)

// errNotInherited says that a session is and stays another token's.
var errNotInherited = errors.New("the session belongs to another token")

// mayInherit tells whether t may go on with a session although a token of another
// name opened it: there is no valid token of that name any more, the session has not
// ended, and t may do all of it by itself. So a token that is renewed under another
// name costs no byte that has arrived. The error is errNotInherited if it may not.
func (s *Server) mayInherit(t *token.Token, session *journal.Session) error {
	if session.Token == t.Name || session.State.Final() || s.isValid(session.Token) {
		return errNotInherited
	}
	whole, err := s.cfg.Journal.Session(session.ID)
	if err != nil {
		return err
	}
	if t.CheckMoves(movesOf(&whole)) != nil {
		return errNotInherited
	}
	return nil
}

// isValid tells whether there is a token of a name that is valid now.
func (s *Server) isValid(name string) bool {
	return s.cfg.Settings().Named(name, time.Now()) != nil
}

// inherit makes the session that of the token that goes on with it.
func (s *Server) inherit(r *request) error {
	before := r.session.Token
	session, err := s.cfg.Journal.Give(r.session.ID, before, r.token.Name, r.token.Name)
	if err != nil {
		return err
	}
	r.session = &session
	s.event(r, "session inherited", "from", before)
	return nil
}

// withInherited adds to a page of sessions for some moves those that t may inherit.
func (s *Server) withInherited(t *token.Token, q journal.Query, page []journal.Session) ([]journal.Session, error) {
	more, err := s.cfg.Journal.Live(func(x *journal.Session) bool {
		return x.Moves == q.Moves && (q.State == "" || x.State == q.State) && x.Token != t.Name
	})
	if err != nil {
		return nil, err
	}
	for i := range more {
		known := slices.ContainsFunc(page, func(x journal.Session) bool { return x.ID == more[i].ID })
		if known || len(page) >= q.Limit {
			continue
		}
		err := s.mayInherit(t, &more[i])
		if err == nil {
			page = append(page, more[i])
		} else if !errors.Is(err, errNotInherited) && !errors.Is(err, journal.ErrNotFound) {
			return nil, err
		}
	}
	return page, nil
}
