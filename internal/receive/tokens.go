// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"net/http"
	"time"

	"github.com/lirios/ostree-upload/internal/token"
)

// tokens is GET /api/v1/tokens: all for a token of scope admin, and itself for another.
func (s *Server) tokens(w http.ResponseWriter, r *request) error {
	settings, used := s.cfg.Settings(), s.cfg.LastUses()
	return writeJSON(w, http.StatusOK, token.NewList(settings.Tokens, settings.OIDC, used, time.Now(), func(name string) bool {
		return r.token.May(token.Admin) || r.token.Name == name
	}))
}
