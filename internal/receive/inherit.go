// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/journal"
)

// inherits tells whether t may go on with a session although a token of another name
// opened it: there is no valid token of that name any more, the session has not ended,
// and t may push all of it by itself. So a token that is renewed under another name
// costs no byte that has arrived.
func (s *Server) inherits(t *token.Token, session *journal.Session) bool {
	if session.Token == t.Name || session.State.Final() || t.CheckPush(session.Force, names(session.Refs)) != nil {
		return false
	}
	now := time.Now()
	return !slices.ContainsFunc(s.cfg.Settings().Tokens, func(o token.Token) bool {
		return o.Name == session.Token && !o.Expired(now)
	})
}

// inherit makes the session that of the token that goes on with it.
func (s *Server) inherit(r *request) error {
	before := r.session.Token
	session, err := s.cfg.Journal.Give(r.session.ID, r.token.Name)
	if err != nil {
		return err
	}
	r.session = &session
	s.cfg.Log.Info("session inherited", "session", session.ID, "token", r.token.Name, "from", before)
	return nil
}
