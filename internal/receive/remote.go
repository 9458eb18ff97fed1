// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"net/http"

	"github.com/lirios/ostree-upload/internal/forwarded"
	"github.com/lirios/ostree-upload/internal/wire"
)

// remote is the address that a request comes from: that of the connection or, where a
// trusted proxy is there, the one that the proxy tells.
func (s *Server) remote(r *http.Request) string {
	return s.cfg.Settings().TrustedProxies.Client(forwarded.Peer(r.RemoteAddr), r.Header)
}

// enter counts a request that came through a trusted proxy as under way until leave, and
// refuses it if its client has as many as it could have connections without the proxy.
func (s *Server) enter(w http.ResponseWriter, r *request) (leave func(), err error) {
	leave, n, ok := s.conns.enter(r.Request, r.remote)
	if ok {
		return leave, nil
	}
	w.Header().Set("Retry-After", "1")
	return leave, wire.Errorf(wire.Quota, "%s has %d requests under way, as many as one address may have", r.remote, n).
		WithHint("have fewer at once")
}
