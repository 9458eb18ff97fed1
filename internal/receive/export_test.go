// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

// Unshared lets each token have as much of the server as if it had very many cores. It is
// called before the first request.
func (s *Server) Unshared() { s.shares.cores = 1 << 10 }
