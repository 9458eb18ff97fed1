// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"context"
	"log"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/forwarded"
)

// errorLog takes what net/http tells of connections, a line at a time: it tells of a
// handshake that failed nowhere else.
func (s *Shared) errorLog() *log.Logger { return log.New(connectionLog{s}, "", 0) }

type connectionLog struct{ s *Shared }

// handshakeFailed is net/http's line about a handshake.
var handshakeFailed = regexp.MustCompile(`^http: TLS handshake error from (\S+): (.*)`)

// panicked is net/http's line about a handler that panicked, with its stack.
var panicked = regexp.MustCompile(`^http2?: panic serving (\S+): ((?s:.*))`)

// Write logs a line at debug, as it may be anyone's noise, but what is wrong with a
// client certificate as a refusal, and a panic as the fault of the server that it is.
func (l connectionLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if m := panicked.FindStringSubmatch(text); m != nil {
		l.log(slog.LevelError, "request failed by a panic", m)
	} else if m := handshakeFailed.FindStringSubmatch(text); m != nil && isCertificateRefusal(m[2]) {
		l.log(slog.LevelWarn, "client certificate refused", m)
	} else {
		l.s.logger.Debug(text)
	}
	return len(line), nil
}

// log logs a line of which m has the peer and what there is to say.
func (l connectionLog) log(level slog.Level, msg string, m []string) {
	if held, ok := l.s.refused.take(&request{}, time.Now()); ok {
		withHeld(l.s.logger, held).Log(context.Background(), level, msg, "remote", forwarded.Peer(m[1]), "err", m[2])
	}
}

// isCertificateRefusal tells a handshake that ended for want of a client certificate, or
// for a bad one, as crypto/tls words it for a server.
func isCertificateRefusal(reason string) bool {
	return strings.HasPrefix(reason, "tls: client didn't provide a certificate") || strings.HasPrefix(reason, "tls: failed to verify certificate")
}
