// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

// example is a session with something in each field that people see.
var example = wire.Session{
	ID: "k3xq7mpl2wbz5aen", State: wire.Open, Token: "ci",
	Refs: []wire.Ref{
		{Ref: "os/x86_64/stable", New: strings.Repeat("9f", 32)},
		{Ref: "os/x86_64/next", Old: strings.Repeat("11", 32), New: strings.Repeat("22", 32)},
	},
	Created: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC),
	Updated: time.Date(2026, 11, 23, 10, 0, 4, 0, time.UTC),
	Objects: wire.Objects{Known: 8114, Missing: 12, Staged: 8101, Rejected: 1},
	Bytes:   wire.Bytes{Received: 109_241_000, Staged: 109_240_100},
	Uploads: []wire.Upload{{Name: "k4tz7a-7", Offset: 4_194_304, Size: 8_388_608}},
	Problems: []wire.ObjectProblem{
		{Object: "abcd.filez", Code: wire.BadObjects, Reason: "name has \x1b[2J in it"},
	},
	Error: wire.MissingObjects, Detail: "12 objects are missing",
}

// fakeServer answers as the server does, for the paths that sessions asks.
func fakeServer(t *testing.T) string {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, status int, v any) {
		kind := "application/json"
		if status >= 400 {
			kind = wire.ProblemType
		}
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		aborted := example
		aborted.State = wire.Aborted
		published := wire.Session{ID: "published2222222", State: wire.Published}
		state := r.URL.Query().Get("state")
		switch token, request := r.Header.Get("Authorization"), r.Method+" "+r.URL.Path; {
		case token != "Bearer secret":
			answer(w, 401, wire.Errorf(wire.Unauthorized, "the token is not known here").WithHint("make one"))
		case request == "GET /api/v1/sessions" && (state == "" || state == wire.Open):
			answer(w, 200, wire.SessionList{Sessions: []wire.Session{example}})
		case request == "GET /api/v1/sessions":
			answer(w, 200, wire.SessionList{})
		case request == "GET /api/v1/sessions/"+example.ID:
			answer(w, 200, example)
		case request == "GET /api/v1/sessions/"+published.ID:
			answer(w, 200, published)
		case request == "DELETE /api/v1/sessions/"+example.ID:
			answer(w, 200, aborted)
		case request == "DELETE /api/v1/sessions/"+published.ID:
			answer(w, 409, wire.Errorf(wire.SessionClosed, "session is published"))
		default:
			answer(w, 404, wire.Errorf(wire.NotFound, "there is no session %s", r.URL.Path))
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

// TestSessions pins what each form of the command prints, and its exit code.
func TestSessions(t *testing.T) {
	t.Setenv("OSTREE_UPLOAD_TOKEN", "")
	address := fakeServer(t)
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args   string
		exit   int
		stdout string
		stderr string
	}{
		{"-t secret", 0, "k3xq7mpl2wbz5aen  open   …/x86_64/stable +1  8102/8114  109 MB    ci     ", ""},
		{"list -t secret", 0, "SESSION", ""},
		{"--status open -t secret", 0, "k3xq7mpl2wbz5aen", ""},
		{"-t secret --json", 0, `"sessions": [`, ""},
		{"-t secret --json --status failed", 0, `"sessions": []`, ""},
		{"--token-file " + tokenFile, 0, "k3xq7mpl2wbz5aen", ""},
		{"-t secret show k3xq7mpl2wbz5aen", 0, "8114 known, 12 missing, 8101 staged, 1 rejected", ""},
		{"-t secret show k3xq7mpl2wbz5aen", 0, "ref      os/x86_64/stable\n         from (new)\n         to   9f9f", ""},
		{"-t secret show k3xq7mpl2wbz5aen", 0, "abcd.filez bad-objects: name has ?[2J in it", ""},
		{"show k3xq7mpl2wbz5aen -t secret --json", 0, `"id": "k3xq7mpl2wbz5aen"`, ""},
		{"-t secret --watch show published2222222", 0, "published", ""},
		{"-t secret abort k3xq7mpl2wbz5aen", 0, "aborted k3xq7mpl2wbz5aen\n", ""},
		{"-t secret abort k3xq7mpl2wbz5aen --json", 0, `"state": "aborted"`, ""},
		{"-t secret abort published2222222", 1, "", "session is published"},
		{"-t secret show aaaaaaaaaaaaaaaa", 1, "", "there is no session"},
		{"-t wrong", 3, "", "not known here\nhint: make one"},
		{"", 3, "", "not known here\nhint: give it in OSTREE_UPLOAD_TOKEN, or by --token-file"},
		{"-t secret -a http://127.0.0.1:1", 75, "", "cannot reach http://127.0.0.1:1"},
		{"-t secret -a ftp://x", 2, "", "ftp"},
		{"-t secret --status lost", 2, "", "must be one of"},
		{"-t secret show", 2, "", "<id>"},
	} {
		args := append([]string{"sessions", "--address", address}, strings.Fields(tt.args)...)
		var stdout, stderr strings.Builder
		if exit := run(args, &stdout, &stderr); exit != tt.exit {
			t.Errorf("%q: exit %d, want %d", tt.args, exit, tt.exit)
		}
		if out := stdout.String(); !strings.Contains(out, tt.stdout) || tt.stdout == "" && out != "" {
			t.Errorf("%q: stdout\n%s\nwant %q", tt.args, out, tt.stdout)
		}
		if out := stderr.String(); !strings.Contains(out, tt.stderr) || tt.stderr == "" && out != "" {
			t.Errorf("%q: stderr\n%s\nwant %q", tt.args, out, tt.stderr)
		}
	}
}

// TestSessionsJSON pins that --json is the server's document.
func TestSessionsJSON(t *testing.T) {
	var stdout, stderr strings.Builder
	args := []string{"sessions", "show", example.ID, "--json", "-t", "secret", "-a", fakeServer(t)}
	if exit := run(args, &stdout, &stderr); exit != 0 {
		t.Fatal(stderr.String())
	}
	var got wire.Session
	if err := json.Unmarshal([]byte(stdout.String()), &got); err != nil {
		t.Fatal(err)
	}
	want, _ := json.Marshal(example)
	if back, _ := json.Marshal(got); string(back) != string(want) {
		t.Errorf("got %s\nwant %s", back, want)
	}
}

// TestWatchGoesOn pins that a watch outlasts a server that is away for a while,
// which it says once, and ends where asking again is no use.
func TestWatchGoesOn(t *testing.T) {
	t.Parallel()
	away := func(w http.ResponseWriter) { http.Error(w, "away", http.StatusServiceUnavailable) }
	broken := func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	odd := func(w http.ResponseWriter) { io.WriteString(w, "<html>log in first</html>") }
	refused := func(code string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			p := wire.Errorf(code, "it is %s", code)
			w.Header().Set("Content-Type", wire.ProblemType)
			w.WriteHeader(p.Status)
			json.NewEncoder(w).Encode(p)
		}
	}
	state := func(state string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			json.NewEncoder(w).Encode(wire.Session{ID: example.ID, State: state})
		}
	}
	for name, tt := range map[string]struct {
		answers []func(http.ResponseWriter)
		exit    int
		said    int // times that it said that it tries again
	}{
		"503, broken off": {[]func(http.ResponseWriter){state(wire.Open), away, broken, state(wire.Published)}, 0, 1},
		"odd, then 503":   {[]func(http.ResponseWriter){odd, state(wire.Open), away, state(wire.Published)}, 0, 2},
		"token revoked":   {[]func(http.ResponseWriter){state(wire.Open), refused(wire.Unauthorized)}, 3, 0},
		"forbidden":       {[]func(http.ResponseWriter){away, refused(wire.Forbidden)}, 3, 1},
		"unknown session": {[]func(http.ResponseWriter){refused(wire.NotFound)}, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				tt.answers[asked.Add(1)-1](w)
			}))
			defer s.Close()
			var stdout, stderr strings.Builder
			exit := run([]string{"sessions", "--watch", "-a", s.URL, "-t", "secret", "show", example.ID}, &stdout, &stderr)
			if said := strings.Count(stderr.String(), "trying again"); exit != tt.exit || said != tt.said || int(asked.Load()) != len(tt.answers) {
				t.Errorf("exit %d, %d requests, stderr:\n%s", exit, asked.Load(), &stderr)
			}
			if tt.exit == 0 && !strings.Contains(stdout.String(), wire.Published) {
				t.Errorf("stdout:\n%s", &stdout)
			}
		})
	}
}
