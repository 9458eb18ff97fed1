// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// The pause before the nth repetition grows from firstPause to longestPause.
const (
	firstPause   = 250 * time.Millisecond
	longestPause = 30 * time.Second
)

// A Retrier repeats what fails with a Temporary error, until there was no
// progress for too long. All requests of a push share one: while any of them
// makes progress, all go on.
type Retrier struct {
	limit   time.Duration // without progress
	contact time.Duration // the same, before the server has answered once
	first   time.Duration // the first pause
	retries *atomic.Int64
	log     *slog.Logger

	mu       sync.Mutex
	answered bool
	failing  time.Time // the first failure since the last progress, or zero
}

// NewRetrier returns one that gives up after limit without progress, or after
// contact if the server has never answered; 0 is at the first failure. It counts
// repetitions in retries.
func NewRetrier(limit, contact time.Duration, retries *atomic.Int64, log *slog.Logger) *Retrier {
	return &Retrier{limit: limit, contact: contact, first: firstPause, retries: retries, log: log}
}

// A GaveUpError says that there was no progress for too long.
type GaveUpError struct {
	what string
	took time.Duration
	err  error
}

func (e *GaveUpError) Error() string {
	if e.took < time.Second {
		return fmt.Sprintf("%s: %v", e.what, e.err)
	}
	return fmt.Sprintf("%s: gave up after %s without progress: %v", e.what, e.took.Round(time.Second), e.err)
}

// Unwrap returns the last failure.
func (e *GaveUpError) Unwrap() error { return e.err }

// Do calls try until it succeeds, fails for good, or the time without progress
// is over (*GaveUpError). What is tried ("open a session") is for messages.
func (r *Retrier) Do(ctx context.Context, what string, try func() error) error {
	return r.do(ctx, what, func() (bool, error) { return false, try() })
}

// do is Do for a try that reports whether it made progress although it failed;
// the pauses then start small again.
func (r *Retrier) do(ctx context.Context, what string, try func() (progress bool, err error)) error {
	for n := 0; ; n++ {
		progress, err := try()
		if err == nil {
			r.Progressed()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if KindOf(err) != Temporary {
			return fmt.Errorf("%s: %w", what, err)
		}
		if progress {
			n = 0
			r.Progressed()
		}
		left, took, first := r.failed(err)
		if left <= 0 {
			return &GaveUpError{what, took, err}
		}
		wait := min(max(r.pause(n), askedPause(err)), left)
		r.retries.Add(1)
		level := slog.LevelDebug
		if first && !renewed(err) { // an outage is told once, whatever it cuts off and however long it is
			level = slog.LevelWarn
		}
		r.log.Log(ctx, level, "trying again", "what", what, "in", wait.Round(time.Millisecond), "err", err)
		if err := Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// renewed tells whether a try failed by a token that there is another one for by now, as
// happens to every long push with ID tokens.
func renewed(err error) bool {
	var answer *answerError
	return errors.As(err, &answer) && answer.renewed
}

// Progressed notes that the server took something or answered.
func (r *Retrier) Progressed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answered, r.failing = true, time.Time{}
}

// failed notes a failure and tells how long to go on trying, how long there was no
// progress, and whether it is the first one since. An answer of the server, even one that
// it cannot do this now, shows that the address is right.
func (r *Retrier) failed(err error) (left, took time.Duration, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var answer *answerError
	if errors.As(err, &answer) && !answer.foreign() {
		r.answered = true
	}
	if first = r.failing.IsZero(); first {
		r.failing = now
	}
	limit := r.limit
	if !r.answered {
		limit = min(limit, r.contact)
	}
	took = now.Sub(r.failing)
	return limit - took, took, first
}

// pause is how long to wait before the repetition after n others: doubling, and
// a random half of it, so that clients cut off together do not return together.
func (r *Retrier) pause(n int) time.Duration {
	d := longestPause
	if n < 7 {
		d = min(d, r.first<<n)
	}
	return d/2 + rand.N(d/2) // #nosec G404 -- no secret
}

// Sleep waits for d, or until ctx ends, which is the error then.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
