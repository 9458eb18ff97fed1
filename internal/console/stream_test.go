// SPDX-License-Identifier: AGPL-3.0-or-later

package console_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// stream is one of events.
type stream struct {
	t     testing.TB
	res   *http.Response
	lines *bufio.Scanner
}

// event is what came over a stream.
type event struct {
	name     string
	Title    string
	Problem  string
	Sections map[string]string
}

func (b *browser) open(path string) *stream {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), "GET", b.base+path, nil)
	must.OK(b.t, err)
	res, err := b.client.Do(req)
	must.OK(b.t, err)
	b.t.Cleanup(func() { _ = res.Body.Close() })
	s := &stream{b.t, res, bufio.NewScanner(res.Body)}
	s.lines.Buffer(nil, 4<<20)
	return s
}

// next is the next event; not ok at the end of the stream.
func (s *stream) next() (e event, ok bool) {
	s.t.Helper()
	for s.lines.Scan() {
		line := s.lines.Text()
		if name, is := strings.CutPrefix(line, "event: "); is {
			e.name = name
		}
		if data, is := strings.CutPrefix(line, "data: "); is {
			must.OK(s.t, json.Unmarshal([]byte(data), &e))
			return e, true
		}
	}
	return e, false
}

// until is the first event that good holds true for.
func (s *stream) until(good func(event) bool) event {
	s.t.Helper()
	for {
		e, ok := s.next()
		if !ok {
			s.t.Fatalf("the stream ended: %v", s.lines.Err())
		}
		if good(e) {
			return e
		}
	}
}

func has(section, word string) func(event) bool {
	return func(e event) bool { return strings.Contains(e.Sections[section], word) }
}

// A stream brings what changes, as it changes, and nothing is held back on its way.
func TestStream(t *testing.T) {
	s := start(t)
	b := newBrowser(t, s.URL)
	b.signIn(s.Admin)
	events := b.open("/?as=events")
	if h := events.res.Header; h.Get("Content-Type") != "text/event-stream" || h.Get("X-Accel-Buffering") != "no" || !strings.Contains(h.Get("Cache-Control"), "no-store") {
		t.Errorf("headers are %v", h)
	}
	events.until(has("under-way", "Nobody is sending anything"))
	session := s.Client(s.Token).Open(wire.Ref{Ref: "os/x", New: strings.Repeat("1", 64)})
	opened := events.until(has("under-way", session.ID))
	if _, sent := opened.Sections["works"]; sent {
		t.Errorf("what did not change was sent again: %v", opened.Sections)
	}
	one := b.open("/page/sessions/" + session.ID + "?as=events")
	one.until(has("session", "receiving"))
	s.Client(s.Token).Want(200, "DELETE", "/api/v1/sessions/"+session.ID, nil)
	one.until(has("session", "aborted"))
	events.until(has("ended", session.ID))
}

// A token that is taken away ends what was open with it, and its sign-in.
func TestRevoked(t *testing.T) {
	s := start(t)
	secret := s.AddToken(token.Options{Name: "guest", Scopes: []string{token.Sessions}})
	b := newBrowser(t, s.URL)
	b.signIn(secret)
	events := b.open("/?as=events")
	events.until(func(e event) bool { return e.name == "update" })
	s.Revoke("guest")
	events.until(func(e event) bool { return e.name == "signed-out" })
	if e, more := events.next(); more {
		t.Errorf("the stream goes on with %v", e)
	}
	b.want(401, "GET", "/", nil, "signed out")
	b.want(401, "GET", "/?as=events", nil)
}

// A page that is turned off ends the streams that are open.
func TestTurnedOff(t *testing.T) {
	s := start(t)
	b := newBrowser(t, s.URL)
	b.signIn(s.Admin)
	events := b.open("/?as=events")
	events.until(func(e event) bool { return e.name == "update" })
	s.Change(func(c *config.Config) { c.Page = false })
	events.until(func(e event) bool { return e.name == "signed-out" })
	if e, more := events.next(); more {
		t.Errorf("the stream goes on with %v", e)
	}
}

// What a token may do is found out anew: one that is narrowed sees less at once.
func TestNarrowed(t *testing.T) {
	s := start(t)
	secret := s.AddToken(token.Options{Name: "guest", Scopes: []string{token.Sessions}})
	session := s.Client(s.Token).Open(wire.Ref{Ref: "os/x", New: strings.Repeat("1", 64)})
	b := newBrowser(t, s.URL)
	b.signIn(secret)
	events := b.open("/page/sessions/" + session.ID + "?as=events")
	events.until(has("session", "receiving"))
	gone := s.Client(s.Token).Open(wire.Ref{Ref: "os/y", New: strings.Repeat("2", 64)})
	s.Client(s.Token).Want(200, "DELETE", "/api/v1/sessions/"+gone.ID, nil)
	overview := b.open("/?as=events")
	overview.until(has("ended", gone.ID))
	s.Change(func(c *config.Config) {
		for i := range c.Tokens {
			if c.Tokens[i].Name == "guest" {
				c.Tokens[i].Scopes = []string{token.Push}
			}
		}
	})
	overview.until(has("ended", "No session has ended yet"))
	events.until(func(e event) bool { return e.name == "problem" && strings.Contains(e.Problem, "there is no session") })
	b.want(404, "GET", "/page/sessions/"+session.ID, nil)
}

// Of the streams and sign-ins of one token there are only so many.
func TestBounds(t *testing.T) {
	s := start(t)
	b := newBrowser(t, s.URL)
	b.signIn(s.Admin)
	for range 12 {
		b.open("/?as=events").until(func(e event) bool { return e.name == "update" })
	}
	b.want(429, "GET", "/?as=events", nil)
	b.want(200, "GET", "/?as=sections", nil, "Nobody is sending anything")
	other := newBrowser(t, s.URL)
	other.signIn(s.Token)
	other.open("/?as=events").until(func(e event) bool { return e.name == "update" })

	for range 15 {
		newBrowser(t, s.URL).signIn(s.Admin)
	}
	b.want(200, "GET", "/", nil)
	newBrowser(t, s.URL).signIn(s.Admin)
	b.want(401, "GET", "/", nil)
	other.want(200, "GET", "/", nil)
	b.want(413, "POST", "/page/sign-in", url.Values{"token": {strings.Repeat("x", 100<<10)}})
}

// A stream ends with the server, and the browser goes on when it is there again.
func TestStopEndsStreams(t *testing.T) {
	s := start(t)
	b := newBrowser(t, s.URL)
	b.signIn(s.Admin)
	events := b.open("/?as=events")
	events.until(func(e event) bool { return e.name == "update" })
	s.Stop() // waits for no stream
	for {
		if _, ok := events.next(); !ok {
			break
		}
	}
	s.Run()
}

// Names, subjects and reasons that others made up are text.
func TestHostileText(t *testing.T) {
	s := start(t)
	build := t.TempDir() + "/build"
	ts.Commit(t, build, "os/x", "1", 3)
	const evil = `"><script src=//evil.example></script><img src=x onerror=alert(1)>`
	must.Run(t, "ostree", "--repo="+build, "commit", "--branch=os/x", "--tree=ref=os/x", "--subject="+evil)
	commit := must.Run(t, "ostree", "--repo="+build, "rev-parse", "os/x")
	must.Run(t, "ostree", "--repo="+build, "prune", "--refs-only", "--depth=0")
	session := s.Client(s.Token).Hold(build, wire.Ref{Ref: "os/x", New: commit})
	b := newBrowser(t, s.URL)
	b.signIn(s.Admin)
	b.want(303, "POST", "/page/sessions/"+session.ID+"/reject", url.Values{"field": {evil}})
	for _, path := range []string{"/", "/page/sessions/" + session.ID, "/page/refs?q=" + url.QueryEscape(evil), "/page/ref?name=" + url.QueryEscape(evil), "/page/sessions?state=" + url.QueryEscape(evil), "/page/sessions/" + url.PathEscape(evil), "/page/" + url.PathEscape(evil)} {
		got := b.do("GET", path, nil)
		for _, bad := range []string{"<script src=//", "<img"} {
			if strings.Contains(got.body, bad) {
				t.Errorf("%s has %s: %s", path, bad, got.body)
			}
		}
	}
	b.want(200, "GET", "/page/sessions/"+session.ID, nil, "&lt;script src=//evil.example&gt;")
}

// A page that is looked at seldom is also left within seconds when its sign-in ends, be it
// in another window of the browser.
func TestSignedOutElsewhere(t *testing.T) {
	s := start(t)
	b := newBrowser(t, s.URL)
	b.signIn(s.Admin)
	events := b.open("/page/tokens?as=events")
	events.until(has("tokens", "boss"))
	events.until(func(e event) bool { return e.name == "update" && len(e.Sections) == 0 }) // a beat
	b.want(http.StatusSeeOther, "POST", "/page/sign-out", url.Values{})
	events.until(func(e event) bool { return e.name == "signed-out" })
}
