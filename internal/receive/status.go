// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"maps"
	"net/http"

	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
)

// watcher may see how the server stands: who may see all sessions, or the metrics.
func watcher(_ *Server, r *request) error {
	if r.token.May(token.Sessions) || r.token.May(token.Metrics) {
		return nil
	}
	return wire.Errorf(wire.Forbidden, "token %s may not see how the server stands", r.token.Name).
		WithHint("use a token of scope sessions or metrics")
}

// serverStatus is GET /api/v1/status.
func (s *Server) serverStatus(w http.ResponseWriter, _ *request) error {
	now := s.cfg.Status()
	now.Version = s.cfg.Version
	now.Healthy = true
	if err := s.Healthy(); err != nil {
		now.Healthy, now.Problem = false, err.Error()
	}
	return writeJSON(w, http.StatusOK, now)
}

// repositories is GET /api/v1/repositories.
func (f *Front) repositories(w http.ResponseWriter, r *request) error {
	all := f.cfg.States()
	maps.DeleteFunc(all, func(name, _ string) bool { return !r.token.MayUse(name) })
	return writeJSON(w, http.StatusOK, wire.RepositoryList{Token: shownToken(r.token), Repositories: all})
}

// shownToken is what a token is told of itself.
func shownToken(t *token.Token) wire.InfoToken {
	return wire.InfoToken{Name: t.Name, Scopes: t.Scopes, Refs: t.Refs}
}
