// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/fake"
)

// A proxy that cuts each wait for the outcome does not end a push whose session lives,
// however short --retry-for is.
func TestWaitsThatAProxyCuts(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	f := fake.Start(t)
	var cut atomic.Int32
	f.Outcome = func(s *wire.Session) { s.State = wire.Verifying }
	f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.FormValue("wait") == "" {
			return false
		}
		if cut.Add(1) == 5 {
			f.Mu.Lock()
			f.Session.State = wire.Published
			f.Mu.Unlock()
		}
		http.Error(w, "<html>", http.StatusGatewayTimeout)
		return true
	}
	opt := options(f, repo)
	opt.RetryFor = 50 * time.Millisecond
	result, _ := mustEnd(t, opt, 0, "")
	if cut.Load() != 5 || result.Session.State != wire.Published {
		t.Errorf("%d waits, session %s", cut.Load(), result.Session.State)
	}
}

// The same holds for a question about objects that waits for what arrived to be
// verified.
func TestQuestionsThatAProxyCuts(t *testing.T) {
	f := fake.Start(t)
	f.Session = &wire.Session{ID: "aaaabbbbccccdddd", State: wire.Open, Uploads: []wire.Upload{{Name: "p", Offset: 7, Size: 7}}}
	var cut atomic.Int32
	f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "POST" || cut.Add(1) > 5 {
			return false
		}
		http.Error(w, "<html>", http.StatusGatewayTimeout)
		return true
	}
	r := testRunWith(t, f, Options{RetryFor: 50 * time.Millisecond})
	names := []ostree.Name{{Checksum: ostree.Checksum{1}, Type: ostree.File}}
	if lacking, err := r.negotiate(t.Context(), "ask", names); err != nil || len(lacking) != 1 {
		t.Errorf("%v, %v", lacking, err)
	}
}

// A login page in the middle is waited out, at whatever request it appears, and
// whether it is a redirect, a page, or a firewall's refusal.
func TestLoginPageInTheMiddle(t *testing.T) {
	repo, _ := buildRepo(t, "archive", 1)
	for name, page := range map[string]func(w http.ResponseWriter, r *http.Request){
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/portal-login", http.StatusFound) },
		"page":     func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>log in</html>") },
		"refusal":  fake.AnswerWith(403, "<html>log in</html>"),
	} {
		for _, path := range []string{"/sessions", "/objects", "/files/", "/finalize"} {
			t.Run(name+path, func(t *testing.T) {
				f := fake.Start(t)
				var n atomic.Int32
				f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
					if !strings.HasSuffix(r.URL.Path, path) || n.Add(1) > 2 {
						return false
					}
					page(w, r)
					return true
				}
				opt := options(f, repo)
				opt.RetryFor = time.Hour
				if result, _ := mustEnd(t, opt, 0, ""); result.Retries != 2 {
					t.Errorf("%d retries", result.Retries)
				}
			})
		}
	}
}
