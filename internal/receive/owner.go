// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"net/http"
	"time"

	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
)

// overseer may hand the session over to another token: who sees all sessions.
func overseer(s *Server, r *request) error {
	if err := viewer(s, r); err != nil {
		return err
	}
	if !r.token.May(token.Sessions) {
		return wire.Errorf(wire.Forbidden, "token %s may not hand sessions over", r.token.Name).WithHint("use a token of scope sessions")
	}
	return nil
}

// setOwner is POST /api/v1/sessions/{id}/owner. Who gets the session has to be able to go
// on with it, so that nothing is published by this which the new owner could not do itself.
func (s *Server) setOwner(w http.ResponseWriter, r *request) error {
	var req wire.OwnerRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	to := s.cfg.Settings().Named(req.Token, time.Now())
	if to == nil {
		return wire.Errorf(wire.BadRequest, "there is no token %.80q here that is valid", req.Token).
			WithHint("on the server `ostree-upload tokens` lists those there are")
	}
	s.opening.Lock() // no other may open between the look and the change
	defer s.opening.Unlock()
	whole, err := s.cfg.Journal.Session(r.session.ID)
	if err != nil {
		return err
	}
	if err := to.CheckMoves(movesOf(&whole)); err != nil {
		return err
	}
	if whole.Token != to.Name && !whole.State.Final() { // else it is no more for the token
		if err := s.checkShare(to, len(whole.Refs)); err != nil {
			return err
		}
	}
	session, err := s.cfg.Journal.Give(whole.ID, whole.Token, to.Name, r.token.Name)
	if err != nil {
		return err
	}
	s.event(r, "session handed over", "from", whole.Token, "to", to.Name)
	return s.answerWhole(w, http.StatusOK, session.ID)
}
