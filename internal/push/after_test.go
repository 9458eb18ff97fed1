// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/fake"
)

// following starts a server of which each publish is followed by works, and by other
// ones each time that the session is asked for.
func following(t *testing.T, asked func(n int) []wire.After) *fake.Server {
	t.Helper()
	f := fake.Start(t)
	n := 0
	f.Outcome = func(s *wire.Session) { s.State, s.After = wire.Published, asked(0) }
	f.Fault = func(_ http.ResponseWriter, r *http.Request) bool {
		if f.Session != nil && r.Method == "GET" && strings.HasSuffix(r.URL.Path, f.Session.ID) {
			n++
			f.Session.After = asked(n)
		}
		return false
	}
	return f
}

// A push waits for works that are due, also for one that fails and is then done.
func TestWaitAfter(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	states := []string{wire.WorkDue, wire.WorkDue, wire.WorkFailed, wire.WorkDue, wire.WorkDone}
	f := following(t, func(n int) []wire.After {
		return []wire.After{{Work: "dropped", State: wire.WorkDropped}, {Work: "deltas", State: states[min(n, len(states)-1)], Error: "e"}}
	})
	opt := options(f, repo)
	opt.WaitAfter, opt.RetryFor = true, time.Hour
	result, _ := mustEnd(t, opt, 0, "")
	if left := result.Session.Following(); len(left) > 0 {
		t.Errorf("still to follow: %+v", left)
	}
}

// Without being told to, it does not wait, and its result has what is due.
func TestWorksDue(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	due := []wire.After{{Work: "deltas", State: wire.WorkDue}}
	f := following(t, func(int) []wire.After { return due })
	result, _ := mustEnd(t, options(f, repo), 0, "")
	if !slices.Equal(result.Session.Following(), due) {
		t.Errorf("still to follow: %+v", result.Session.After)
	}
}

// A push that is interrupted while it waits says that all is published.
func TestInterruptedWait(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	ctx, cancel := context.WithCancel(t.Context())
	f := following(t, func(n int) []wire.After {
		if n == 3 {
			cancel()
		}
		return []wire.After{{Work: "deltas", State: wire.WorkDue}}
	})
	opt := options(f, repo)
	opt.WaitAfter = true
	result, err := Run(ctx, opt)
	var e *Error
	if !errors.As(err, &e) || e.Exit != ExitInterrupted || !strings.Contains(e.Hint(), "all is published") || !result.Done() {
		t.Errorf("got %#v, hint %q, done %v", err, e.Hint(), result.Done())
	}
}
