// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"log"
	"regexp"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/forwarded"
)

// errorLog takes what net/http tells of connections, a line at a time: it tells of a
// handshake that failed nowhere else.
func (s *Server) errorLog() *log.Logger { return log.New(connectionLog{s}, "", 0) }

type connectionLog struct{ s *Server }

// handshakeFailed is net/http's line about a handshake.
var handshakeFailed = regexp.MustCompile(`^http: TLS handshake error from (\S+): (.*)`)

// Write logs a line at debug, as it may be anyone's noise, but what is wrong with a
// client certificate as a refusal.
func (l connectionLog) Write(line []byte) (int, error) {
	m := handshakeFailed.FindSubmatch(line)
	if m == nil || !isCertificateRefusal(string(m[2])) {
		l.s.cfg.Log.Debug(strings.TrimSpace(string(line)))
		return len(line), nil
	}
	if held, ok := l.s.refused.take(&request{}, time.Now()); ok {
		withHeld(l.s.cfg.Log, held).Warn("client certificate refused", "remote", forwarded.Peer(string(m[1])), "err", string(m[2]))
	}
	return len(line), nil
}

// isCertificateRefusal tells a handshake that ended for want of a client certificate, or
// for a bad one, as crypto/tls words it for a server.
func isCertificateRefusal(reason string) bool {
	return strings.HasPrefix(reason, "tls: client didn't provide a certificate") || strings.HasPrefix(reason, "tls: failed to verify certificate")
}
