// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

// The pause before the nth repetition grows from firstPause to longestPause.
const (
	firstPause   = 250 * time.Millisecond
	longestPause = 30 * time.Second
)

// A patience repeats what fails for the moment, until nothing has got on for
// too long. All requests of a push share one: while any gets on, all go on.
type patience struct {
	limit   time.Duration // without progress
	contact time.Duration // the same, before the server has answered once
	retries *atomic.Int64
	log     *slog.Logger

	now   func() time.Time
	sleep func(context.Context, time.Duration) error

	mu       sync.Mutex
	answered bool
	failing  time.Time // the first failure since the last progress, or zero
}

func newPatience(limit, contact time.Duration, retries *atomic.Int64, log *slog.Logger) *patience {
	return &patience{limit: limit, contact: contact, retries: retries, log: log, now: time.Now, sleep: sleep}
}

// A gaveUpError says that the time without progress is over.
type gaveUpError struct {
	what string
	took time.Duration
	err  error
}

func (e *gaveUpError) Error() string {
	if e.took < time.Second {
		return fmt.Sprintf("%s: %v", e.what, e.err)
	}
	return fmt.Sprintf("%s: gave up after %s without progress: %v", e.what, e.took.Round(time.Second), e.err)
}

func (e *gaveUpError) Unwrap() error { return e.err }

// do calls try until it succeeds, fails for good, or the time without progress
// is over (*gaveUpError). try reports whether it got on although it failed; the
// pauses then start small again. What is tried ("upload x") is for messages.
func (p *patience) do(ctx context.Context, what string, try func() (moved bool, err error)) error {
	for n := 0; ; n++ {
		moved, err := try()
		if err == nil {
			p.progress()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		again, after := judge(err)
		if !again {
			return fmt.Errorf("%s: %w", what, err)
		}
		if moved {
			n = 0
			p.progress()
		}
		left, took := p.failed()
		if left <= 0 {
			return &gaveUpError{what, took, err}
		}
		wait := min(max(pause(n), after), left)
		p.retries.Add(1)
		p.log.Warn("trying again", "what", what, "in", wait.Round(time.Millisecond), "err", err)
		if err := p.sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// call is do for one request of the API.
func (p *patience) call(ctx context.Context, what string, try func() error) error {
	return p.do(ctx, what, func() (bool, error) { return false, try() })
}

// progress notes that the server took something or answered.
func (p *patience) progress() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answered, p.failing = true, time.Time{}
}

// failed notes a failure and tells how long to go on trying, and for how long
// nothing has got on.
func (p *patience) failed() (left, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.failing.IsZero() {
		p.failing = now
	}
	limit := p.limit
	if !p.answered {
		limit = min(limit, p.contact)
	}
	took = now.Sub(p.failing)
	return limit - took, took
}

// pause is how long to wait before the repetition after n others: doubling, and
// a random half of it, so that clients cut off together do not return together.
func pause(n int) time.Duration {
	d := longestPause
	if n < 7 {
		d = min(d, firstPause<<n)
	}
	return d/2 + rand.N(d/2)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// A passingError is worth another try whatever it wraps: the caller has already
// done what makes the next one differ.
type passingError struct{ error }

func (e passingError) Unwrap() error { return e.error }

// judge tells whether trying again can help, and how long the server asks to
// wait before it.
func judge(err error) (again bool, after time.Duration) {
	var passing passingError
	var answer *answerError
	var network *url.Error
	errors.As(err, &answer)
	switch {
	case errors.As(err, &passing):
		again = true
	case answer != nil:
		again = passes(answer)
	case errors.As(err, &network):
		again = !wrongServer(err)
	case errors.Is(err, errAlien):
		again = true // a proxy's, perhaps while the server is down
	}
	if answer != nil {
		after = answer.after
	}
	return again, after
}

// MayPass tells whether the same request of a Client may succeed later.
func MayPass(err error) bool {
	again, _ := judge(err)
	return again
}

// passes tells whether an answer can be another one next time.
func passes(e *answerError) bool {
	switch status := e.problem.Status; status {
	case http.StatusRequestTimeout, http.StatusLocked, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusInsufficientStorage:
		return false
	case http.StatusBadRequest:
		return e.interrupted()
	default:
		return status >= 500
	}
}

// wrongServer tells whether a network error means that the address is wrong or
// the server is not the one that it should be: waiting does not help.
func wrongServer(err error) bool {
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &certificate) || errors.Is(err, http.ErrSchemeMismatch)
}

// code is the code of the server's answer in err, or "".
func code(err error) string {
	var p *wire.Problem
	if errors.As(err, &p) {
		return p.Code()
	}
	return ""
}

// status is the HTTP status of the server's answer in err, or 0.
func status(err error) int {
	var p *wire.Problem
	if errors.As(err, &p) {
		return p.Status
	}
	return 0
}

func isNetwork(err error) bool {
	var network *url.Error
	return errors.As(err, &network)
}
