// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

func testRetrier(limit, contact time.Duration) *Retrier {
	return NewRetrier(limit, contact, new(atomic.Int64), slog.New(slog.DiscardHandler))
}

// It gives up when the limit is over, and not before: a shorter one applies until
// the server has answered.
func TestRetrierGivesUpAfterTheLimit(t *testing.T) {
	for _, c := range []struct {
		name           string
		limit, contact time.Duration
		answered       bool
		want           time.Duration
	}{
		{"answered before", 15 * time.Minute, 20 * time.Second, true, 15 * time.Minute},
		{"never answered", 15 * time.Minute, 20 * time.Second, false, 20 * time.Second},
		{"not at all", 0, 0, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := testRetrier(c.limit, c.contact)
				if c.answered {
					r.Progressed()
				}
				start := time.Now()
				err := r.Do(t.Context(), "try", func() error { return broke(io.EOF) })
				var gaveUp *GaveUpError
				if !errors.As(err, &gaveUp) {
					t.Fatalf("got %v", err)
				}
				if took := time.Since(start); took != c.want {
					t.Errorf("gave up after %s, want %s", took, c.want)
				}
			})
		})
	}
}

// An answer of the server that it cannot do this now shows that the address is right;
// one of a proxy does not.
func TestRetrierIsPatientWithTheServer(t *testing.T) {
	for answer, want := range map[*wire.Problem]time.Duration{
		wire.Errorf(wire.Unavailable, "later"):                       15 * time.Minute,
		{Type: "about:blank", Status: http.StatusServiceUnavailable}: 20 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			err := testRetrier(15*time.Minute, 20*time.Second).Do(t.Context(), "try", func() error { return &answerError{problem: answer} })
			if took := time.Since(start); !errors.As(err, new(*GaveUpError)) || took != want {
				t.Errorf("gave up after %s, want %s: %v", took, want, err)
			}
		})
	}
}

// Progress, of this request or of any other, starts the time anew.
func TestRetrierCountsTimeWithoutProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		err := testRetrier(time.Minute, time.Minute).do(t.Context(), "try", func() (bool, error) {
			tries++
			if tries == 200 {
				return true, nil
			}
			return tries%3 == 0, broke(io.EOF)
		})
		if err != nil {
			t.Errorf("gave up: %v", err)
		}
	})
}

// The pause that the server asks for is kept, however long it is.
func TestRetrierKeepsRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, start := testRetrier(time.Hour, time.Hour), time.Now()
		first := true
		err := r.Do(t.Context(), "try", func() error {
			if !first {
				return nil
			}
			first = false
			return &answerError{problem: &wire.Problem{Status: 429}, after: 7 * time.Minute}
		})
		if took := time.Since(start); err != nil || took != 7*time.Minute {
			t.Errorf("paused for %s, %v", took, err)
		}
		if r.retries.Load() != 1 {
			t.Errorf("%d retries counted", r.retries.Load())
		}
	})
}

// An interrupt ends it: during a try, and in a pause at once.
func TestRetrierStopsWhenInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		err := testRetrier(time.Hour, time.Hour).Do(ctx, "try", func() error { cancel(); return broke(context.Canceled) })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("during a try: %v", err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		err = testRetrier(time.Hour, time.Hour).Do(ctx, "try", func() error {
			return &answerError{problem: &wire.Problem{Status: 429}, after: 7 * time.Minute}
		})
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != time.Minute {
			t.Errorf("in a pause: %v after %s", err, took)
		}
	})
}

// Pauses grow to a longest one and stay there.
func TestPauseGrowsAndEnds(t *testing.T) {
	r := testRetrier(0, 0)
	for n := range 100 {
		d := r.pause(n)
		if d < firstPause/2 || d > longestPause || n > 10 && d < longestPause/2 {
			t.Errorf("pause(%d) = %s", n, d)
		}
	}
}

// The header has seconds or a date; of anything else nothing is known.
func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "120": 2 * time.Minute, "-1": 0, "x": 0,
		"Mon, 23 Nov 2026 10:00:30 GMT": 30 * time.Second,
		"Mon, 23 Nov 2026 09:00:00 GMT": 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}

// An outage is told once, however often it is tried again, and the next one again.
func TestOutageIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := NewRetrier(time.Hour, time.Hour, new(atomic.Int64), slog.New(slog.NewTextHandler(&log, nil)))
		for outage := 1; outage <= 2; outage++ {
			tries := 0
			err := r.Do(t.Context(), "ask", func() error {
				if tries++; tries < 5 {
					return broke(io.EOF)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if told := strings.Count(log.String(), "trying again"); told != outage {
				t.Errorf("after %d outages told %d times:\n%s", outage, told, &log)
			}
		}
	})
}
