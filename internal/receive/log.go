// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/token"
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
		if r.token.Subject != "" {
			log = log.With("subject", r.token.Subject)
		}
	}
	return log.With("remote", r.remote, "request", r.id)
}

// requestID is the ID that a request came with, or one of our own.
func requestID(r *http.Request) string {
	if id := r.Header.Get(wire.RequestHeader); wire.IsRequestID(id) {
		return id
	}
	return wire.NewRequestID()
}

// logProblem logs a request that was refused or failed. What a client meets in the
// ordinary course of uploads, such as an offset that is not what it thought, is
// no event.
func (s *Server) logProblem(r *request, p *wire.Problem, err error) {
	if r.Context().Err() != nil {
		s.log(r).Debug("request cut off", "method", r.Method, "err", err)
		return
	}
	if isOrdinary(p) {
		return
	}
	held, ok := s.refused.take(r, time.Now())
	if !ok {
		return
	}
	path := s.loggedPath(r)
	log := withHeld(s.log(r), held).With("method", r.Method, "path", path)
	if text := err.Error(); path != r.URL.Path {
		err = errors.New(strings.ReplaceAll(text, r.URL.Path, path))
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

// answered counts a request, and logs it at debug.
func (s *Server) answered(r *request, to route, status int, counted func(status int)) {
	counted(status)
	s.log(r).Debug("request answered", "method", r.Method, "route", to.pattern, "status", status, "took", time.Since(r.began))
}

// maxPath bounds what of a path the log repeats, and maxPart a part of it that is no
// name of an object.
const (
	maxPath = 300
	maxPart = 32
)

// loggedPath is the path of a request for the log: short, and without what may be a
// token that somebody put there by mistake, be it one of another server.
func (s *Server) loggedPath(r *request) string {
	path := r.URL.Path
	if len(path) > maxPath {
		path = path[:strings.LastIndexByte(path[:maxPath], '/')+1] + "..."
	}
	parts := strings.Split(path, "/")
	for i, part := range parts {
		_, err := token.Find(s.cfg.Settings().Tokens, part, r.began)
		if !errors.Is(err, token.ErrUnknown) || len(part) >= maxPart && strings.Count(part, ".") != 1 {
			parts[i] = "(left out)"
		}
	}
	return strings.Join(parts, "/")
}

// isOrdinary is true for what a sound client meets and goes on.
func isOrdinary(p *wire.Problem) bool {
	switch p.Status {
	case http.StatusNotFound, http.StatusGone, http.StatusLocked:
		return true
	case http.StatusConflict:
		return p.Code() != wire.RefConflict
	}
	return p.Code() == wire.Unavailable // that an issuer is down has its own line
}

// event logs what a request did to its session.
func (s *Server) event(r *request, msg string, keys ...any) {
	if held, ok := s.events.take(r, time.Now()); ok {
		withHeld(s.log(r), held).Info(msg, keys...)
	}
}

// withHeld adds how many lines were left out before this one.
func withHeld(log *slog.Logger, held int) *slog.Logger {
	if held == 0 {
		return log
	}
	return log.With("held", held)
}

// quotas bound the lines of a kind, apart for each token and for all who have none: a
// flood of them fills no disk, and hides nobody else's. A token may have so many lines
// at once, and gets one more in each time of every.
type quotas struct {
	lines   int
	every   time.Duration
	mu      sync.Mutex
	byToken map[string]*quota // "" is for those without one
}

// A quota is a bucket of lines that fills again with time.
type quota struct {
	left int
	full time.Time // when left was last counted
	held int       // lines that were left out since the last one
}

// Refusals are rare. A push of 160 MB each second, in packs of the ordinary size, has
// none of its events left out.
const (
	refusedLines = 30
	refusedEvery = 2 * time.Second
	eventLines   = 1000
	eventEvery   = time.Second / 20
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
		q.byToken[name] = &quota{left: q.lines, full: now}
	}
	return q.byToken[name].take(now, q.lines, q.every)
}

func (q *quota) take(now time.Time, lines int, every time.Duration) (held int, ok bool) {
	if gained := int(now.Sub(q.full) / every); gained > 0 {
		q.left = min(lines, q.left+gained)
		q.full = q.full.Add(time.Duration(gained) * every)
	}
	if q.left == 0 {
		q.held++
		return 0, false
	}
	q.left--
	held, q.held = q.held, 0
	return held, true
}
