// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

// log has the keys of each line about a request: who asks, from where, and about
// which session, as far as that is known.
func (s *Server) log(r *request) *slog.Logger {
	log := s.cfg.Log
	if r.session != nil {
		log = log.With("session", r.session.ID)
	}
	if r.token != nil {
		log = log.With("token", r.token.Name)
	}
	return log.With("remote", remote(r.Request))
}

// maxForwarded bounds what a client can have the log repeat.
const maxForwarded = 100

// remote is the address of who asks: of the connection and, behind "for", what the
// proxy there claims. A client that reaches the server directly can claim anything.
func remote(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	if claimed := r.Header.Get("X-Forwarded-For"); claimed != "" {
		host += " for " + claimed[:min(len(claimed), maxForwarded)]
	}
	return host
}

// logProblem logs a request that was refused or failed. What a client meets in the
// ordinary course of uploads, such as an offset that is not what it thought, is
// no event.
func (s *Server) logProblem(r *request, p *wire.Problem, err error) {
	log := s.log(r).With("method", r.Method, "path", r.URL.Path)
	if r.Context().Err() != nil {
		log.Debug("request cut off", "err", err)
		return
	}
	if isOrdinary(p) {
		return
	}
	held, ok := s.quotas.take(r, time.Now())
	if !ok {
		return
	}
	if held > 0 {
		log = log.With("held", held)
	}
	switch {
	case p.Status == http.StatusUnauthorized:
		log.Warn("token refused", "err", err)
	case p.Status >= 500 && p.Status != http.StatusInsufficientStorage:
		log.Error("request failed", "status", p.Status, "err", err)
	default:
		log.Warn("request refused", "status", p.Status, "code", p.Code(), "err", err)
	}
}

// isOrdinary is true for what a sound client meets and goes on.
func isOrdinary(p *wire.Problem) bool {
	switch p.Status {
	case http.StatusNotFound, http.StatusGone, http.StatusLocked:
		return true
	case http.StatusConflict:
		return p.Code() != wire.RefConflict
	}
	return false
}

// quotas bound the lines about refused requests, apart for each token and for all
// who have none: a flood of them fills no disk, and hides nobody else's.
type quotas struct {
	mu      sync.Mutex
	byToken map[string]*quota // "" is for those without one
}

// A quota is a bucket of lines that fills again with time.
type quota struct {
	left int
	full time.Time // when left was last counted
	held int       // lines that were left out since the last one
}

// A quota holds so many lines, and gets one more in each such time.
const (
	quotaLines = 30
	quotaEvery = 2 * time.Second
)

// take asks for a line about a request, and tells how many were left out before it.
func (q *quotas) take(r *request, now time.Time) (held int, ok bool) {
	name := ""
	if r.token != nil {
		name = r.token.Name
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.byToken == nil {
		q.byToken = map[string]*quota{}
	}
	if q.byToken[name] == nil {
		q.byToken[name] = &quota{left: quotaLines, full: now}
	}
	return q.byToken[name].take(now)
}

func (q *quota) take(now time.Time) (held int, ok bool) {
	if gained := int(now.Sub(q.full) / quotaEvery); gained > 0 {
		q.left = min(quotaLines, q.left+gained)
		q.full = q.full.Add(time.Duration(gained) * quotaEvery)
	}
	if q.left == 0 {
		q.held++
		return 0, false
	}
	q.left--
	held, q.held = q.held, 0
	return held, true
}
