// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tus/tusd/v2/pkg/handler"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/idtoken"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
)

// lookEvery is how often a request under way looks whether its token still may
// make it.
const lookEvery = 500 * time.Millisecond

// revokedError is why a request was cut: its token lost the right to it. To tusd it is
// a server that stops, so that it keeps what has arrived of an upload.
type revokedError struct{ problem error }

func (e *revokedError) Error() string   { return e.problem.Error() }
func (e *revokedError) Unwrap() []error { return []error{e.problem, handler.ErrServerShutdown} }

// watch cuts a request once its token may not make it any more, until the returned
// stop: an upload or a wait can last for hours.
func (s *Server) watch(r *request, may who, cut context.CancelCauseFunc) (stop func() bool) {
	ctx := r.Context()
	var timer *time.Timer
	looking := make(chan struct{})
	timer = time.AfterFunc(lookEvery, func() {
		<-looking
		if ctx.Err() != nil {
			return
		}
		if err := s.stillMay(r, may); err != nil {
			cut(&revokedError{err})
			return
		}
		timer.Reset(lookEvery)
	})
	close(looking)
	return timer.Stop
}

// stillMay admits a request once more, as it would be admitted now.
func (s *Server) stillMay(r *request, may who) (err error) {
	now := &request{Request: r.Request}
	now.token, err = s.bearer(r)
	if errors.As(err, new(*idtoken.UnavailableError)) {
		return refusal(err) // a client tries again
	}
	if errors.As(err, new(*token.Denied)) {
		return err
	}
	if err != nil {
		return wire.Errorf(wire.Unauthorized, "%v", err).WithHint("the token was valid when the request began; ask for another")
	}
	return may(s, now)
}

// allowed remembers for which sessions a token was found to be allowed all refs, so
// that not each chunk of a session of thousands compares them with globs. It is
// valid for one configuration, and for the very token of it.
type allowed struct {
	mu       sync.Mutex
	settings *config.Config
	tokens   map[string]*token.Token // by session
}

// mostAllowed bounds the sessions that are remembered.
const mostAllowed = 10_000

// check refuses a request of a token that may not do, or no longer, what the
// session is for.
func (a *allowed) check(s *Server, r *request) error {
	settings := s.cfg.Settings()
	if a.has(settings, r) {
		return nil
	}
	whole, err := s.cfg.Journal.Session(r.session.ID)
	if err != nil {
		return err
	}
	if err := r.token.CheckMoves(movesOf(&whole)); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.settings != settings || len(a.tokens) >= mostAllowed {
		a.settings, a.tokens = settings, map[string]*token.Token{}
	}
	a.tokens[r.session.ID] = r.token
	return nil
}

func (a *allowed) has(settings *config.Config, r *request) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.settings == settings && a.tokens[r.session.ID] == r.token
}
