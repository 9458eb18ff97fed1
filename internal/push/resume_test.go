// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/fake"
)

// A session whose ref has moved meanwhile is refused before anything is sent.
func TestResumeOfAMovedRef(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	f := fake.Start(t)
	f.Fault = hangUp("PATCH")
	opt := options(f, repo)
	opt.RetryFor = 0
	first, _ := mustEnd(t, opt, ExitForNow, "gave-up")
	f.Refs["os/x86_64"] = wire.RefState{Commit: strings.Repeat("1", 64)}
	opt.Resume = first.Session.ID
	before := f.Count("PATCH /files/")
	_, e := mustEnd(t, opt, ExitRefused, wire.RefMoved)
	if n := f.Count("PATCH /files/") - before; n != 0 || f.Salvages != 0 || !strings.Contains(e.Error(), "os/x86_64 is at 1111") {
		t.Errorf("%d requests with bytes, %d salvages: %v", n, f.Salvages, e)
	}
}

// A push that gives up says how to go on, and the next one does so by itself.
func TestPushGoesOnWithItsSession(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	f := fake.Start(t)
	f.Fault = hangUp("PATCH")
	opt := options(f, repo)
	first, e := mustEnd(t, opt, ExitForNow, "gave-up")
	if want := "--resume " + first.Session.ID; !strings.HasSuffix(e.Hint(), want) || !strings.HasSuffix(first.ResumeWith, want) {
		t.Errorf("hint %q", e.Hint())
	}
	f.Heal()
	second, _ := mustEnd(t, opt, 0, "")
	if !second.Resumed || f.Opened != 1 || f.Salvages != 1 {
		t.Errorf("%+v: %d sessions, %d salvages", second, f.Opened, f.Salvages)
	}
}

// hangUp breaks each request of a method off.
func hangUp(method string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == method {
			fake.HangUp(w, r)
		}
		return false
	}
}

func TestInterruptedPush(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	f := fake.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.Fault = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == "PATCH" {
			cancel()
		}
		return false
	}
	_, err := Run(ctx, options(f, repo))
	var e *Error
	if !errors.As(err, &e) || e.Exit != ExitInterrupted || !strings.Contains(e.Hint(), "--resume") {
		t.Errorf("%#v", err)
	}
}

func TestResumeStates(t *testing.T) {
	repo, heads := buildRepo(t, "archive", 1)
	for _, c := range []struct {
		state string
		exit  int
		code  string
	}{
		{wire.Open, 0, ""},
		{wire.Verifying, 0, ""},
		{wire.Publishing, 0, ""},
		{wire.Published, 0, ""},
		{wire.Failed, ExitFailed, wire.RefMoved},
		{wire.Aborted, ExitFailed, ""},
		{wire.Expired, ExitFailed, ""},
	} {
		t.Run(c.state, func(t *testing.T) {
			f := fake.Start(t)
			f.Session = &wire.Session{ID: "aaaabbbbccccdddd", State: c.state, Refs: []wire.Ref{{Ref: testRef, New: heads[0]}}}
			if c.state == wire.Failed {
				f.Session.Error = wire.RefMoved
			}
			f.Fault = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.FormValue("wait") != "" {
					f.Session.State = wire.Published
				}
				return false
			}
			opt := options(f, repo)
			opt.Resume = f.Session.ID
			mustEnd(t, opt, c.exit, c.code)
		})
	}
}

// A session can only be resumed where its commits are.
func TestResumeNeedsTheCommits(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	f := fake.Start(t)
	f.Session = &wire.Session{ID: "aaaabbbbccccdddd", State: wire.Open, Refs: []wire.Ref{{Ref: testRef, New: strings.Repeat("b", 64)}}}
	opt := options(f, repo)
	opt.Resume = f.Session.ID
	if _, e := mustEnd(t, opt, ExitFailed, ""); !strings.Contains(e.Error(), strings.Repeat("b", 64)) {
		t.Error(e)
	}
	if f.Salvages != 0 {
		t.Error("salvaged a session that is not for this repository")
	}
}

// The command that resumes has no password: a word stands for it, or the whole address
// is left to the environment that it came from.
func TestResumeCommandWithoutPassword(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	for _, stays := range []bool{false, true} {
		f := fake.Start(t)
		f.Fault = hangUp("PATCH")
		opt := options(f, repo)
		host := strings.TrimPrefix(f.URL, "http://")
		opt.Server.Address, opt.AddressStays, opt.RetryFor = "http://me:secret@"+host, stays, 0
		result, e := mustEnd(t, opt, ExitForNow, "gave-up")
		said := result.ResumeWith + e.Hint() + e.Error()
		if has := strings.Contains(said, " --address http://me:PASSWORD@"+host+" "); has == stays || strings.Contains(said, "secret") {
			t.Errorf("%s", said)
		}
	}
}

func TestResumeCommandSurvivesAShell(t *testing.T) {
	for in, want := range map[string]string{
		"repo": "repo", "/srv/a b": "'/srv/a b'", "it's": `'it'\''s'`, "": "''", "$HOME": "'$HOME'",
	} {
		if got := hint.Word(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}
