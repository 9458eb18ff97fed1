// SPDX-License-Identifier: AGPL-3.0-or-later

package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/server"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/units"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/idp"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// An event is a line of the log, its keys with their values.
type event map[string]any

// An eventLog keeps the lines of a log, and lets a test wait for one.
type eventLog struct {
	mu     sync.Mutex
	more   *sync.Cond
	events []event
}

func newEventLog() *eventLog {
	l := &eventLog{}
	l.more = sync.NewCond(&l.mu)
	return l
}

// Write takes one line of slog's JSON.
func (l *eventLog) Write(b []byte) (int, error) {
	var e event
	if err := json.Unmarshal(b, &e); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
	l.more.Broadcast()
	return len(b), nil
}

// wait waits for the first line of an event.
func (l *eventLog) wait(msg string) event { return l.waitAll(msg, 1)[0] }

// waitAll waits until there are as many lines of an event.
func (l *eventLog) waitAll(msg string, many int) []event {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if all := l.all(msg); len(all) >= many {
			return all
		}
		l.more.Wait()
	}
}

// all are the lines of an event. The caller holds mu, or the server has ended.
func (l *eventLog) all(msg string) (of []event) {
	for _, e := range l.events {
		if e["msg"] == msg {
			of = append(of, e)
		}
	}
	return of
}

// serve runs a server as the command does, with these settings, until stop.
func (l *eventLog) serve(t *testing.T, repo string, settings func() *config.Config) (address string, stop func()) {
	t.Helper()
	return l.serveAs(t, server.Options{Repo: repo, Settings: settings})
}

// serveAs is serve with options, of which it fills in those that are the same in all
// tests.
func (l *eventLog) serveAs(t *testing.T, opt server.Options) (address string, stop func()) {
	t.Helper()
	opt.State, opt.Address, opt.Init = filepath.Join(opt.Repo, "state"), "127.0.0.1:0", true
	opt.Version, opt.Log = "test", server.NewLog(l, config.LogJSON, slog.LevelInfo)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, opt) }()
	stop = sync.OnceFunc(func() { cancel(); must.OK(t, <-ended) })
	t.Cleanup(stop)
	scheme := "http"
	if opt.TLS.Cert != "" {
		scheme = "https"
	}
	return fmt.Sprint(scheme, "://", l.wait("receiving")["address"]), stop
}

// Each event that docs/operating.md lists comes with the keys that stand there, and
// the log has no other line in a life in which all of them happen. Who pushed what
// from where stands in one line.
func TestLogOfAllEvents(t *testing.T) {
	dir := t.TempDir()
	build, log := filepath.Join(dir, "build"), newEventLog()
	one, two := ts.Commit(t, build, "main", "one", 3), ts.Commit(t, build, "main", "two", 3)
	file := filepath.Join(dir, "c.yaml")
	ci, made := token.Generate(token.Options{Name: "ci", Refs: []string{"os/**"}})
	must.OK(t, config.AddToken(file, made))
	source, err := config.OpenFile(file, slog.New(slog.NewJSONHandler(log, nil)))
	must.OK(t, err)
	var ttl atomic.Int64
	ttl.Store(10e9) // has the janitor look each second
	address, stop := log.serve(t, filepath.Join(dir, "prod"), func() *config.Config {
		c := *source.Current()
		c.SessionTTL, c.Limits.MinFreeSpace = units.Duration(ttl.Load()), 0
		return &c
	})
	c := ts.NewClient(t, address, ci)
	ref := func(name string, old, new ostree.Checksum) wire.Ref {
		r := wire.Ref{Ref: name, New: new.String()}
		if old != (ostree.Checksum{}) {
			r.Old = old.String()
		}
		return r
	}
	c.Push(build, ref("os/a", ostree.Checksum{}, one))
	c.Push(build, ref("os/a", one, two))
	if failed := c.Push(build, ref("os/a", one, two)); failed.State != wire.Failed {
		t.Errorf("%+v", failed)
	}
	c.Want(200, "DELETE", "/api/v1/sessions/"+c.Open(ref("os/b", ostree.Checksum{}, one)).ID, nil, "X-Forwarded-For", "203.0.113.9")
	ts.NewClient(t, address, "wrong").Want(401, "GET", "/api/v1/refs", nil)
	c.Want(403, "POST", "/api/v1/sessions", []byte(`{"refs":[{"ref":"other","new":"`+one.String()+`"}]}`))
	must.OK(t, config.AddToken(file, func() token.Token { _, x := token.Generate(token.Options{Name: "new"}); return x }()))
	keep := config.Default()
	keep.Keep = []config.Keep{{Refs: []string{"**"}}}
	_, err = server.Prune(t.Context(), server.Options{
		Repo: filepath.Join(dir, "prod"), State: filepath.Join(dir, "prod/state"), Settings: func() *config.Config { return keep },
	}, false)
	must.OK(t, err)
	ttl.Store(1e9)
	c.Open(ref("os/c", ostree.Checksum{}, one))
	log.wait("session expired")
	stop()

	documented := documentedEvents(t)
	log.matches(t, documented)
	for msg := range maps.Keys(documented) {
		if len(log.all(msg)) == 0 && !rare[msg] {
			t.Errorf("no line %q in the log", msg)
		}
	}
	got := log.all("published")[1]
	for key, want := range map[string]any{"token": "ci", "remote": "127.0.0.1", "ref": "os/a", "old": one.String(), "new": two.String()} {
		if got[key] != want {
			t.Errorf("%s is %v in %v, want %v", key, got[key], got, want)
		}
	}
	if by := log.all("session aborted")[0]["remote"]; by != "127.0.0.1" { // no proxy is trusted
		t.Errorf("aborted from %v", by)
	}
}

// matches checks that the lines of the log are those that are documented, with their
// keys.
func (l *eventLog) matches(t *testing.T, documented map[string][]string) {
	t.Helper()
	for _, e := range l.events {
		msg := e["msg"].(string)
		want, ok := documented[msg]
		if !ok {
			t.Errorf("docs/operating.md does not list %v", e)
		}
		for _, key := range want {
			key, optional := strings.CutSuffix(key, "?")
			if _, ok := e[key]; !ok && !optional {
				t.Errorf("no %s in %v", key, e)
			}
		}
		for key := range e {
			if !slices.Contains([]string{"time", "level", "msg"}, key) && !slices.Contains(want, key) && !slices.Contains(want, key+"?") {
				t.Errorf("docs/operating.md does not list the key %s of %v", key, e)
			}
		}
	}
}

// rare are events that take a fault of the machine or of the program, or a token that goes away.
var rare = map[string]bool{
	"request failed": true, "request failed by a panic": true, "cannot publish": true, "published more": true, "cleaned": true,
	"another ostree-upload serves the repository, waiting for its end": true,
	"verified what the repository has of a session's objects":          true, "an object of the repository is not what its name says": true,
	"cannot prune, which will be tried again": true, "no control socket, so that prune needs the server stopped": true,
	"client certificate refused": true, "certificate read again": true,
	"the changed certificate is not used, the last one stays": true, "the certificate has expired, so clients refuse it": true,
	"not healthy, so systemd's watchdog is not answered": true,
	"the keys of an issuer of ID tokens cannot be read":  true, "the keys of an issuer of ID tokens can be read again": true,
	"session inherited": true, "session handed over": true, "the repository is locked, trying again": true, "the changed configuration is not used": true, "ended": true,
	// test/system has these, which take the program.
	"made a static delta": true, "cannot make a static delta": true, "removed a static delta that was superseded": true,
	// TestLogOfWorks has these.
	"done what was to follow a publish": true, "what is to follow a publish failed; it will be tried again": true, "a work says": true,
	"stopped what is to follow a publish; the next start does it again": true, "a work that is to follow each publish cannot be done": true,
	"a work that was to follow a publish is not done: the configuration does not have it any more": true,
}

// documentedEvents are the events of the table in docs/operating.md, with their
// keys: those in parentheses with a ? behind.
func documentedEvents(t *testing.T) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/operating.md")
	must.OK(t, err)
	_, table, _ := strings.Cut(string(page), "| event | keys | when |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	events := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.*?) \\|").FindAllStringSubmatch(table, -1) {
		for _, key := range strings.Fields(strings.ReplaceAll(row[2], "`", "")) {
			if inner, optional := strings.CutPrefix(key, "("); optional {
				key = strings.TrimSuffix(inner, ")") + "?"
			}
			events[row[1]] = append(events[row[1]], key)
		}
	}
	if len(events) < 10 {
		t.Fatalf("the table of events lists %v", events)
	}
	return events
}

// The log tells which job of a CI pushed, in the lines of publishing too, and of one
// that was refused what it lacks.
func TestLogOfIDTokens(t *testing.T) {
	dir := t.TempDir()
	build, log, issuer := filepath.Join(dir, "build"), newEventLog(), idp.Start(t)
	commit := ts.Commit(t, build, "main", "one", 3)
	settings := config.Default()
	settings.OIDC = []token.Trust{{Issuer: issuer.URL, Audience: "x", Claims: map[string][]string{"repository": {"example/os"}}, Name: "gh", Scopes: []string{token.Push, token.Metrics}}}
	address, stop := log.serve(t, filepath.Join(dir, "prod"), func() *config.Config { return settings })
	job := ts.NewClient(t, address, issuer.Sign(issuer.Job("x")))
	job.Push(build, wire.Ref{Ref: "os/a", New: commit.String()})
	other := issuer.Sign(issuer.Job("x").With(idp.Claims{"repository": "other/os"}))
	ts.NewClient(t, address, other).Want(401, "GET", "/api/v1/info", nil)
	short := "header." + strings.Repeat("x", 30) + ".signature"
	for _, mistake := range []string{other, short} {
		ts.NewClient(t, address, "").Want(401, "GET", "/files/"+mistake, nil)
	}
	text := string(job.Want(200, "GET", "/metrics", nil).Body)
	if !strings.Contains(text, `token_last_use_timestamp_seconds{token="gh"}`) {
		t.Errorf("the metrics do not tell when it was last used:\n%s", text)
	}
	stop()
	for _, msg := range []string{"session opened", "finalize asked", "published"} {
		if e := log.all(msg)[0]; e["token"] != "gh" || e["subject"] != "repo:example/os:ref:refs/heads/main" {
			t.Errorf("%v", e)
		}
	}
	if err := fmt.Sprint(log.all("token refused")[0]["err"]); !strings.Contains(err, `its claim repository is "other/os", and is to be "example/os"`) || strings.Contains(err, other) {
		t.Errorf("the log says %s", err)
	}
	if all := fmt.Sprint(log.events); strings.Contains(all, other) || strings.Contains(all, short) {
		t.Errorf("the log has an ID token: %s", all)
	}
}

// A flood of bad tokens leaves a bounded number of lines, and hides no refusal of
// those who have a token; a later line tells how many were left out.
func TestLogOfFlood(t *testing.T) {
	repo, log := filepath.Join(t.TempDir(), "prod"), newEventLog()
	ci, made := token.Generate(token.Options{Name: "ci", Refs: []string{}})
	settings := config.Default()
	settings.Tokens = []token.Token{made}
	address, stop := log.serve(t, repo, func() *config.Config { return settings })
	for range 300 {
		ts.NewClient(t, address, "wrong").Want(401, "GET", "/api/v1/refs", nil)
	}
	c := ts.NewClient(t, address, ci)
	c.Want(403, "POST", "/api/v1/sessions", []byte(`{"refs":[{"ref":"x","new":"`+strings.Repeat("a", 64)+`"}]}`))
	stop()
	if n := len(log.all("token refused")); n < 10 || n > 200 {
		t.Errorf("%d lines for 300 requests", n)
	}
	if n := len(log.all("request refused")); n != 1 {
		t.Errorf("%d lines for the request of a token", n)
	}
}

// No line repeats all of what a stranger sent, such as a method of many bytes.
func TestLogOfLongValues(t *testing.T) {
	long := strings.Repeat("é", 1<<19)
	for _, format := range []string{config.LogText, config.LogJSON} {
		var b strings.Builder
		server.NewLog(&b, format, slog.LevelInfo).Warn("refused", "method", long, "err", fmt.Errorf("%s: %w", long, os.ErrInvalid), "remote", "192.0.2.1")
		if line := b.String(); len(line) > 5000 || !strings.Contains(line, "éé…") || !strings.Contains(line, "192.0.2.1") {
			t.Errorf("%s: %d bytes: %.200s", format, len(line), line)
		}
	}
}
