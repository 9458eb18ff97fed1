// SPDX-License-Identifier: AGPL-3.0-or-later

package console_test

import (
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// whoMay is the status of each request of the page for each token, as TestWhoMay of the
// API has it. {a} is an open session of token a for os/a/x, {h} one of it that is held,
// {new} another commit than the one that os/a/x names, {old}.
const whoMay = `
                                 none over | a   b   sessions metrics publish promote admin
GET /                            401  401    200 200 200      200     200     200     200
GET /page/sessions               401  401    200 200 200      200     200     200     200
GET /page/sessions?state=nought  401  401    400 400 400      400     400     400     400
GET /page/sessions/{a}           401  401    200 404 200      404     404     404     200
GET /page/sessions/{h}           401  401    200 404 200      404     200     404     200
GET /page/sessions/{a}?as=sections 401 401   200 200 200      200     200     200     200
GET /page/sessions/{a}/abort     401  401    200 404 200      404     404     404     200
GET /page/sessions/{a}/publish   401  401    403 404 403      404     404     404     403
GET /page/sessions/{h}/publish   401  401    403 404 403      404     200     404     200
GET /page/sessions/{h}/reject    401  401    403 404 403      404     200     404     200
GET /page/sessions/{a}/owner     401  401    403 404 200      404     404     404     200
GET /page/sessions/{a}/nought    401  401    404 404 404      404     404     404     404
GET /page/refs                   401  401    200 200 200      200     200     200     200
GET /page/refs?q=***             401  401    400 400 400      400     400     400     400
GET /page/ref?name=os/a/x        401  401    200 404 200      404     404     200     200
GET /page/ref?name=../x          401  401    400 400 400      400     400     400     400
GET /page/move?name=os/a/x&to={new} 401 401  200 403 403      403     403     200     200
GET /page/move?name=os/a/x&to=none  401 401  400 403 403      403     403     400     400
GET /page/tokens                 401  401    200 200 200      200     200     200     200
GET /page/nothing                401  401    404 404 404      404     404     404     404
PUT /page/tokens                 401  401    404 404 404      404     404     404     404
POST /page/sessions/{a}/nought   401  401    404 404 404      404     404     404     404
POST /page/sessions/{a}/publish  401  401    403 404 403      404     404     404     409
POST /page/sessions/{a}/owner b  401  401    403 404 403      404     404     404     403
POST /page/sessions/{h}/reject   401  401    403 404 403      404     400     404     400
POST /page/sessions/{a}/abort    401  401    303 404 303      404     404     404     303
POST /page/sessions/{h}/publish  401  401    403 404 403      404     303     404     303
POST /page/sessions/{h}/reject no 401 401    403 404 403      404     303     404     303
POST /page/move                  401  401    303 403 403      403     403     303     303
`

// TestWhoMay pins which pages a token gets, and what it may do there.
func TestWhoMay(t *testing.T) {
	s := start(t)
	secrets := map[string]string{"none": ""}
	only := []string{"os/a/**"}
	for name, o := range map[string]token.Options{
		"over": {Scopes: []string{token.Admin}}, "a": {Refs: only}, "b": {Refs: []string{"os/b"}},
		"sessions": {Scopes: []string{token.Sessions}}, "metrics": {Scopes: []string{token.Metrics}},
		"publish": {Scopes: []string{token.Publish}, Refs: only}, "promote": {Scopes: []string{token.Promote}, Refs: only}, "admin": {Scopes: []string{token.Admin}},
	} {
		o.Name = name
		secrets[name] = s.AddToken(o)
	}
	w := newAsking(t, s, secrets)
	s.Expire("over")
	lines := strings.Split(strings.TrimSpace(whoMay), "\n")
	tokens := strings.Fields(strings.Replace(lines[0], "|", "", 1))
	for _, line := range lines[1:] {
		words := strings.Fields(line)
		request, statuses := words[:len(words)-len(tokens)], words[len(words)-len(tokens):]
		for i, name := range tokens {
			want, err := strconv.Atoi(statuses[i])
			must.OK(t, err)
			w.ask(name, request, want)
		}
	}
}

// asking sends the requests of the table, about sessions that are new after each request
// that may have changed them.
type asking struct {
	t        *testing.T
	s        *ts.Server
	secrets  map[string]string
	browsers map[string]*browser
	build    string
	commits  []ostree.Checksum // of os/a/x, each the parent of the next
	held     ostree.Checksum
	a, h     string
	dirty    bool
}

func newAsking(t *testing.T, s *ts.Server, secrets map[string]string) *asking {
	w := &asking{t: t, s: s, secrets: secrets, browsers: map[string]*browser{}, build: t.TempDir() + "/build", dirty: true}
	client := s.Client(s.Admin)
	for i := range 2 {
		w.commits = append(w.commits, ts.Commit(t, w.build, "os/a/x", strconv.Itoa(i), 3))
		client.Push(w.build, wire.Ref{Ref: "os/a/x", Old: s.Ref("os/a/x"), New: w.commits[i].String()})
	}
	w.held = ts.Commit(t, w.build, "os/a/held", "held", 3)
	for name, secret := range secrets {
		w.browsers[name] = newBrowser(t, s.URL)
		if secret != "" {
			w.browsers[name].signIn(secret)
		}
	}
	return w
}

// prepare opens the sessions of the table, and ends those before.
func (w *asking) prepare() {
	client := w.s.Client(w.secrets["a"])
	for _, id := range []string{w.a, w.h} {
		if id != "" && (client.Session(id).State == wire.Open || client.Session(id).State == wire.Held) {
			client.Want(200, "DELETE", "/api/v1/sessions/"+id, nil)
		}
	}
	w.a = client.Open(wire.Ref{Ref: "os/a/x", Old: w.s.Ref("os/a/x"), New: strings.Repeat("1", 64)}).ID
	held := client.Hold(w.build, wire.Ref{Ref: "os/a/held", Old: w.s.Ref("os/a/held"), New: w.held.String()})
	if w.h = held.ID; held.State != wire.Held {
		w.t.Fatalf("the session is not held: %+v", held)
	}
	w.dirty = false
}

func (w *asking) ask(name string, request []string, want int) {
	w.t.Helper()
	if w.dirty {
		w.prepare()
	}
	now := w.s.Ref("os/a/x")
	other := w.commits[0].String()
	if other == now {
		other = w.commits[1].String()
	}
	path := strings.NewReplacer("{a}", w.a, "{h}", w.h, "{new}", other).Replace(request[1])
	var form url.Values
	if request[0] == "POST" {
		form = url.Values{"name": {"os/a/x"}, "old": {now}, "new": {other}}
		if len(request) > 2 {
			form.Set("field", request[2])
		}
	}
	got := w.browsers[name].do(request[0], path, form)
	if got.status != want {
		w.t.Errorf("%s by %s: status %d, want %d: %s", strings.Join(request, " "), name, got.status, want, got.body)
	}
	if w.dirty = got.status == 303; w.dirty {
		client := w.s.Client(w.s.Admin)
		id := got.header.Get("Location")
		client.Settled(id[strings.LastIndex(id, "/")+1:])
	} else if w.s.Ref("os/a/x") != now || w.s.Client(w.s.Admin).Session(w.a).State != wire.Open || w.s.Client(w.s.Admin).Session(w.h).State != wire.Held {
		w.t.Errorf("%s by %s is refused, and changed something", strings.Join(request, " "), name)
		w.dirty = true
	}
}
