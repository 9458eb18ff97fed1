// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

func answered(status int, code string) error {
	return &answerError{problem: &wire.Problem{Type: wire.TypePrefix + code, Status: status, Title: code}}
}

func broke(err error) error { return &url.Error{Op: "Get", URL: "http://x", Err: err} }

func TestJudge(t *testing.T) {
	text := func(status int, s string) error {
		return &answerError{problem: &wire.Problem{Status: status}, text: s}
	}
	for _, c := range []struct {
		name  string
		err   error
		again bool
	}{
		{"connection broke", broke(io.ErrUnexpectedEOF), true},
		{"stalled", broke(errStalled), true},
		{"wrong certificate", broke(&tls.CertificateVerificationError{Err: errors.New("unknown authority")}), false},
		{"plain http behind https", broke(http.ErrSchemeMismatch), false},
		{"500", answered(500, wire.Internal), true},
		{"502 of a proxy", text(502, "<html>"), true},
		{"503", text(503, ""), true},
		{"501", text(501, ""), false},
		{"no space", answered(507, wire.InsufficientStorage), false},
		{"locked", text(423, ""), true},
		{"too many", answered(429, wire.Quota), true},
		{"unauthorized", answered(401, wire.Unauthorized), false},
		{"forbidden", answered(403, wire.Forbidden), false},
		{"policy", answered(422, wire.Policy), false},
		{"session closed", answered(409, wire.SessionClosed), false},
		{"bad request", answered(400, wire.BadRequest), false},
		{"tus interrupted", text(400, "ERR_UPLOAD_INTERRUPTED: upload has been interrupted by another request"), true},
		{"tus unexpected EOF", text(400, `{"detail":"ERR_UNEXPECTED_EOF: server expected to receive more bytes"}`), true},
		{"redirect", text(301, ""), false},
		{"passing", passingError{answered(409, "")}, true},
		{"ours", errors.New("read object: no such file"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, err := range []error{c.err, fmt.Errorf("wrapped: %w", c.err)} {
				if again, _ := judge(err); again != c.again {
					t.Errorf("again = %v for %v", again, err)
				}
			}
		})
	}
}

// A clock makes pauses pass at once and remembers them.
type clock struct {
	at     time.Time
	pauses []time.Duration
}

func (c *clock) sleep(ctx context.Context, d time.Duration) error {
	c.at = c.at.Add(d)
	c.pauses = append(c.pauses, d)
	return ctx.Err()
}

func testPatience(limit, contact time.Duration) (*patience, *clock) {
	c := &clock{at: time.Unix(1e9, 0)}
	p := newPatience(limit, contact, new(atomic.Int64), slog.New(slog.DiscardHandler))
	p.now, p.sleep = func() time.Time { return c.at }, c.sleep
	return p, c
}

func TestPatienceGivesUpAfterTheLimit(t *testing.T) {
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
			p, clock := testPatience(c.limit, c.contact)
			if c.answered {
				p.progress()
			}
			start := clock.at
			err := p.call(t.Context(), "try", func() error { return broke(io.EOF) })
			var gaveUp *gaveUpError
			if !errors.As(err, &gaveUp) {
				t.Fatalf("got %v", err)
			}
			if took := clock.at.Sub(start); took != c.want {
				t.Errorf("gave up after %s, want %s", took, c.want)
			}
		})
	}
}

// Progress, of this request or of any other, starts the time anew.
func TestPatienceCountsTimeWithoutProgress(t *testing.T) {
	p, _ := testPatience(time.Minute, time.Minute)
	tries := 0
	err := p.do(t.Context(), "try", func() (bool, error) {
		tries++
		if tries == 200 {
			return true, nil
		}
		return tries%3 == 0, broke(io.EOF)
	})
	if err != nil {
		t.Errorf("gave up: %v", err)
	}
}

func TestPatienceKeepsRetryAfter(t *testing.T) {
	p, clock := testPatience(time.Hour, time.Hour)
	first := true
	err := p.call(t.Context(), "try", func() error {
		if !first {
			return nil
		}
		first = false
		return &answerError{problem: &wire.Problem{Status: 429}, after: 7 * time.Minute}
	})
	if err != nil || len(clock.pauses) != 1 || clock.pauses[0] != 7*time.Minute {
		t.Errorf("pauses %v, %v", clock.pauses, err)
	}
	if p.retries.Load() != 1 {
		t.Errorf("%d retries counted", p.retries.Load())
	}
}

func TestPatienceStopsWhenInterrupted(t *testing.T) {
	p, _ := testPatience(time.Hour, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	err := p.call(ctx, "try", func() error { cancel(); return broke(context.Canceled) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestPauseGrowsAndEnds(t *testing.T) {
	for n := range 100 {
		d := pause(n)
		if d < firstPause/2 || d > longestPause || n > 10 && d < longestPause/2 {
			t.Errorf("pause(%d) = %s", n, d)
		}
	}
}

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
