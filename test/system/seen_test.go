// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// logged starts a server with a log of a format, and of all that it can say.
func logged(t *testing.T, format string) *site.Site {
	t.Helper()
	s := site.At(t, t.TempDir())
	s.MakeToken("--ref", "os/**")
	s.Configure("log-format: " + format)
	t.Cleanup(s.End)
	s.Start("--init", "--verbose")
	return s
}

// linesWith are the lines of the server's log that have a key with a value, in either
// format.
func linesWith(s *site.Site, key, value string) (lines []string) {
	for line := range strings.Lines(s.Server.Log.String()) {
		if strings.Contains(line, key+"="+value) || strings.Contains(line, fmt.Sprintf("%q:%q", key, value)) {
			lines = append(lines, line)
		}
	}
	return lines
}

// Whatever tokens do, and wherever a user puts one by mistake, no token is in a log,
// nor in what the client prints.
func TestNoTokenInLogs(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			s := logged(t, format)
			b, other := site.Small(t, "os/a", "a"), site.Small(t, "other", "b")
			tokens := map[string]string{"good": s.Token, "unknown": "k" + s.Token[1:]}
			for name, args := range map[string][]string{
				"narrow": {"--ref", "nothing"}, "expired": {"--expires", "1s"}, "operator": {"--scope", "sessions"},
			} {
				made := s.Run(append([]string{"gentoken", "--name", name}, args...)...).Must(t, 0)
				tokens[name] = strings.TrimSpace(made.Stdout)
			}
			s.Configure("# - token: PLAINTEXT-" + s.Token)

			var said strings.Builder
			for _, token := range tokens {
				s.Token = token
				for _, args := range [][]string{
					{"push", "--repo", b.Repo}, {"push", "--repo", other.Repo, "--json"}, {"push", "--repo", b.Repo, "--resume", token},
					{"sessions", "show", token}, {"sessions", "abort", token}, {"sessions"},
				} {
					got := s.Run(append(args, "--verbose")...)
					said.WriteString(got.Stdout + got.Stderr)
				}
				misplace(t, s, token)
			}
			must.OK(t, s.Server.Stop())
			log := s.Server.Log.String()
			for name, token := range tokens {
				if at := strings.Index(log, token); at >= 0 {
					t.Errorf("the log has token %s: %s", name, log[max(0, at-300):at+len(token)])
				}
				if at := strings.Index(said.String(), token); at >= 0 && !sentBack(said.String(), token) {
					t.Errorf("a client printed token %s: %s", name, said.String()[max(0, at-300):at+len(token)])
				}
			}
			for _, msg := range []string{"token refused", "request refused", "request answered", "published"} {
				if !strings.Contains(log, msg) {
					t.Errorf("no line %q: do the tokens do what the test thinks?\n%s", msg, log)
				}
			}
			if format == "json" {
				allJSON(t, log)
			}
		})
	}
}

// misplace sends requests that have a token where none belongs.
func misplace(t *testing.T, s *site.Site, token string) {
	t.Helper()
	for _, path := range []string{"/" + token, "/api/v1/sessions/" + token + "/objects", "/files/" + token + "/" + token, "/api/v1/sessions?token=" + token} {
		for _, method := range []string{"GET", "DELETE", "PUT"} {
			for _, header := range [][2]string{{}, {"Authorization", "Bearer " + token}, {"Authorization", "Basic " + token}, {"Ostree-Upload-Token", token}} {
				req, err := http.NewRequest(method, s.URL+path, nil)
				must.OK(t, err)
				if header[0] != "" {
					req.Header.Set(header[0], header[1])
				}
				res, err := http.DefaultTransport.RoundTrip(req)
				must.OK(t, err)
				must.OK(t, res.Body.Close())
			}
		}
	}
}

// sentBack tells whether all that a client printed of a token is what its user gave as
// the ID of a session.
func sentBack(said, token string) bool {
	for line := range strings.Lines(said) {
		if strings.Contains(line, token) && !strings.Contains(line, "session") {
			return false
		}
	}
	return true
}

func allJSON(t *testing.T, log string) {
	t.Helper()
	for line := range strings.Lines(log) {
		var event map[string]any
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Errorf("%v: %s", err, line)
			continue
		}
		for _, key := range []string{"took", "age", "grace"} {
			if v, there := event[key]; there {
				if _, seconds := v.(float64); !seconds || v.(float64) > 1e6 {
					t.Errorf("%s is no number of seconds: %s", key, line)
				}
			}
		}
	}
}

// All requests of a push have one ID. The log has it in each line of the push, the
// client prints it, and an answer quotes it.
func TestRequestID(t *testing.T) {
	t.Parallel()
	s := logged(t, "text")
	b, other := site.Small(t, "os/a", "a"), site.Small(t, "other", "b")

	done := s.Push(b)
	refused := s.Run("push", "--json", "--verbose", "--repo", other.Repo).Must(t, 3)
	id := refused.Result(t).Request
	if !strings.Contains(refused.Stderr, "\nrequest: "+id+"\n") || !strings.Contains(refused.Stderr, "request="+id) {
		t.Errorf("the client does not tell %s:\n%s", id, refused.Stderr)
	}
	unreached := s.Command("push", "--repo", b.Repo, "--retry-for", "0", "--address", "http://127.0.0.1:1")
	if got := site.Finish(t, unreached); strings.Contains(got.Stderr, "request:") {
		t.Errorf("an ID that no log has: %s", got.Stderr)
	}
	answered := map[string]string{} // by the ID that was sent
	for _, sent := range []string{"from-a-proxy.1_2", "", "a b", "a\tb", strings.Repeat("x", 65)} {
		answered[sent] = ask(t, s, sent)
	}

	must.OK(t, s.Server.Stop()) // now the log has all lines
	lines := linesWith(s, "request", done.Request)
	for _, event := range []string{`"session opened"`, `"objects negotiated"`, `"upload received"`, `"finalize asked"`, "published"} {
		if !slices.ContainsFunc(lines, func(l string) bool {
			return strings.Contains(l, "msg="+event+" session="+done.Session.ID+" token=ci remote=127.0.0.1 ")
		}) {
			t.Errorf("no line of %s in\n%s", event, strings.Join(lines, ""))
		}
	}
	if id == done.Request || len(linesWith(s, "request", id)) == 0 {
		t.Errorf("the second push has the ID %s of another, or one that the log lacks", id)
	}
	for sent, got := range answered {
		if kept := got == sent; kept != (sent == "from-a-proxy.1_2") || got == "" || len(linesWith(s, "request", got)) == 0 {
			t.Errorf("sent %q, the answer has %q", sent, got)
		}
	}
}

// ask sends a request without a token and with an ID, and returns the one of the answer.
func ask(t *testing.T, s *site.Site, id string) string {
	t.Helper()
	req, err := http.NewRequest("GET", s.URL+"/api/v1/refs", nil)
	must.OK(t, err)
	req.Header.Set("X-Request-ID", id)
	res, err := http.DefaultTransport.RoundTrip(req)
	must.OK(t, err)
	defer res.Body.Close()
	var problem struct{ Request string }
	must.OK(t, json.NewDecoder(res.Body).Decode(&problem))
	if got := res.Header.Get("X-Request-ID"); got != problem.Request {
		t.Errorf("the header has %q and the document %q", got, problem.Request)
	}
	return problem.Request
}

// A log of JSON has nothing else in it, also if the server cannot start.
func TestLogOfNoStart(t *testing.T) {
	t.Parallel()
	s := site.At(t, t.TempDir())
	must.OK(t, os.WriteFile(s.Config(), []byte("log-format: json\n"), 0o600))
	got := s.Run("receive", "--repo", "nowhere", "--address", "127.0.0.1:0").Must(t, push.ExitFailed)
	allJSON(t, got.Stderr)
	if !strings.Contains(got.Stderr, `"msg":"ended","err":"no OSTree repository at nowhere`) || !strings.Contains(got.Stderr, `"hint":"name a repository`) {
		t.Errorf("%s", got.Stderr)
	}
}
