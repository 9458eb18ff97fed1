// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"crypto/sha256"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/fake"
)

// Where a proxy takes no question so long, it is asked in parts.
func TestLongQuestionsAreParted(t *testing.T) {
	f := fake.Start(t)
	f.Session = &wire.Session{ID: "aaaabbbbccccdddd", State: wire.Open}
	const most = 50_000
	f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.ContentLength <= most {
			return false
		}
		http.Error(w, "<html>too large</html>", http.StatusRequestEntityTooLarge)
		return true
	}
	names := make([]ostree.Name, 4000)
	for i := range names {
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8)}) // does not compress
		names[i] = ostree.Name{Checksum: sum, Type: ostree.File}
	}
	r := testRun(t, f)
	lacking, err := r.negotiate(t.Context(), "ask", names)
	if err != nil || !slices.Equal(lacking, names) {
		t.Errorf("%d of %d, %v", len(lacking), len(names), err)
	}
	if n := f.Count("POST"); n != 1+2+4 {
		t.Errorf("%d questions", n)
	}
}

// A token that ends in the middle of a push ends the push at once. The hint says how to
// go on: the session belongs to the token's name.
func TestEndedTokenEndsThePush(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	f := fake.Start(t)
	f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "PATCH" {
			fake.Refuse(w, wire.Errorf(wire.Unauthorized, "token unknown"))
		}
		return r.Method == "PATCH"
	}
	opt := options(f, repo)
	opt.RetryFor, opt.Jobs = time.Hour, 1
	result, e := mustEnd(t, opt, ExitRefused, wire.Unauthorized)
	if !strings.Contains(e.Hint(), "gentoken --replace --name") || !strings.Contains(e.Hint(), "--resume aaaabbbbccccdddd") {
		t.Errorf("hint %q", e.Hint())
	}
	if f.Count("PATCH") != 1 || result.Retries != 0 {
		t.Errorf("%d requests, %d retries", f.Count("PATCH"), result.Retries)
	}
}

// Each upload has begun and ended when the push is over, and the stage is the last.
func TestProgressAtTheEnd(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	f := fake.Start(t)
	opt := options(f, repo)
	opt.Progress = new(Progress)
	mustEnd(t, opt, 0, "")
	if p := opt.Progress; p.Begun.Load() != p.Sent.Load() || p.BegunBytes.Load() != p.Traffic.Acknowledged.Load() || p.TotalBytes() != p.DoneBytes() || p.Stage() != Verifying {
		t.Errorf("%d objects begun, %d sent; %d bytes begun, %d acknowledged; %s",
			p.Begun.Load(), p.Sent.Load(), p.BegunBytes.Load(), p.Traffic.Acknowledged.Load(), p.Stage())
	}
}

// oddAnswers are successes that something other than the server may answer.
var oddAnswers = map[string]string{
	"login page": "<html>log in first</html>",
	"cut JSON":   `{"refs": {"os`,
}

// A request that was answered oddly is sent again: here each one of the API, once.
func TestOddAnswersAreAskedForAgain(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	for name, odd := range oddAnswers {
		t.Run(name, func(t *testing.T) {
			f := fake.Start(t)
			var seen sync.Map
			var faults atomic.Int64
			f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
				_, again := seen.LoadOrStore(r.Method+r.URL.Path, true)
				if again || !strings.HasPrefix(r.URL.Path, "/api/") {
					return false
				}
				faults.Add(1)
				io.WriteString(w, odd)
				return true
			}
			opt := options(f, repo)
			opt.RetryFor = time.Hour
			result, _ := mustEnd(t, opt, 0, "")
			if result.Retries != faults.Load() || faults.Load() < 5 {
				t.Errorf("%d retries of %d odd answers", result.Retries, faults.Load())
			}
		})
	}
}

// Where all answers are odd the push ends, and says who answers what and what to do.
func TestOddAnswersForEver(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	for _, c := range []struct{ path, kind, odd, hint string }{
		{"/api/v1/refs", "text/html", "<html>log in first</html>", "is right"},
		{"/api/v1/sessions", "text/plain", "{}", "is right"},
		{"/finalize", "text/html", "<html>log in first</html>", "--resume aaaabbbbccccdddd"},
		{"/finalize", "text/plain", `{"session": "moved"}`, "--resume aaaabbbbccccdddd"},
	} {
		f := fake.Start(t)
		f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
			odd := strings.HasSuffix(r.URL.Path, c.path)
			if odd {
				io.WriteString(w, c.odd)
			}
			return odd
		}
		_, e := mustEnd(t, options(f, repo), ExitForNow, "bad-answer")
		for _, part := range []string{strings.TrimPrefix(f.URL, "http://"), c.path, c.kind, "not an answer of an ostree-upload server"} {
			if !strings.Contains(e.Error(), part) {
				t.Errorf("%q does not say %q", e, part)
			}
		}
		if !strings.Contains(e.Hint(), c.hint) || !strings.Contains(e.Hint(), "login page") {
			t.Errorf("hint %q", e.Hint())
		}
	}
}

// A proxy whose limit is below what can be sent at all is named, with what it has
// to let through; no object is called too large.
func TestProxyWithTooSmallLimit(t *testing.T) {
	for _, c := range []struct {
		name    string
		refuses func(r *http.Request) bool
		words   string
	}{
		{"uploads", func(r *http.Request) bool { return r.Method == "PATCH" && r.ContentLength > 1000 }, "takes no request of"},
		{"lists", func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/objects") }, "takes no list of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			repo, _ := buildRepo(t, "archive", 20)
			f := fake.Start(t)
			f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
				if c.refuses(r) {
					http.Error(w, "<html>too large</html>", http.StatusRequestEntityTooLarge)
				}
				return c.refuses(r)
			}
			_, e := mustEnd(t, options(f, repo), ExitFailed, "")
			if !strings.Contains(e.Error(), c.words) || !strings.Contains(e.Hint(), "client_max_body_size") {
				t.Errorf("%v, hint %q", e, e.Hint())
			}
		})
	}
}
