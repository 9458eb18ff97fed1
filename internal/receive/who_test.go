// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// whoMay is the status of each request for each token. Its first line names the tokens
// of holders. {a} is an open session of token a for the ref os/a/x, {b} one of token b
// for os/b; each has an upload p that nothing was sent of. {commit} is what os/a/x names
// in the repository.
const whoMay = `
                               none nobody over replaced | a earlier b all no-ref force only-force sessions metrics admin admin-a
GET /healthz                    200  200    200   200      200  200   200 200   200   200     200       200      200    200    200
OPTIONS /files/                 200  200    200   200      200  200   200 200   200   200     200       200      200    200    200
GET /api/v1/info                401  401    401   401      200  200   200 200   200   200     200       200      200    200    200
GET /api/v1/tokens              401  401    401   401      200  200   200 200   200   200     200       200      200    200    200
GET /api/v1/sessions/{a}?few=1&commits=1 401 401 401 401   200  200   404 404   404   404     404       200      404    200    200
GET /api/v1/refs/os/a/x/log?commits=1 401 401 401 401      200  200   404 200   404   200     404       200      404    200    200
GET /api/v1/status              401  401    401   401      403  403   403 403   403   403     403       200      200    200    200
GET /api/v1/refs                401  401    401   401      200  200   200 200   200   200     200       200      200    200    200
GET /api/v1/refs/os/a/x/log     401  401    401   401      200  200   404 200   404   200     404       200      404    200    200
GET /api/v1/refs/os/a/x         401  401    401   401      404  404   404 404   404   404     404       404      404    404    404
GET /api/v1/commitmeta/{commit} 401  401    401   401      200  200   404 200   404   200     404       404      404    200    200
POST /api/v1/objects            401  401    401   401      200  200   200 200   200   200     403       403      403    200    200
POST /api/v1/sessions os/a/x    401  401    401   401      201  201   403 201   403   201     403       403      403    201    201
POST /api/v1/sessions os/b      401  401    401   401      403  403   201 201   403   403     403       403      403    201    403
POST /api/v1/sessions both      401  401    401   401      403  403   403 201   403   403     403       403      403    201    403
POST /api/v1/sessions force     401  401    401   401      403  403   403 403   403   201     403       403      403    201    201
POST /api/v1/sessions dry-a     401  401    401   401      204  204   403 204   403   204     403       403      403    204    204
POST /api/v1/sessions dry-b     401  401    401   401      403  403   204 204   403   403     403       403      403    204    403
GET /api/v1/sessions            401  401    401   401      200  200   200 200   200   200     200       200      200    200    200
GET /api/v1/sessions?before={a} 401  401    401   401      200  200   404 404   404   404     404       200      404    200    200
GET /api/v1/sessions?before={b} 401  401    401   401      404  404   200 404   404   404     404       200      404    200    200
GET /api/v1/sessions/{a}        401  401    401   401      200  200   404 404   404   404     404       200      404    200    200
GET /api/v1/sessions/{b}        401  401    401   401      404  404   200 404   404   404     404       200      404    200    200
DELETE /api/v1/sessions/{a}     401  401    401   401      200  200   404 404   404   404     404       200      404    200    200
DELETE /api/v1/sessions/{b}     401  401    401   401      404  404   200 404   404   404     404       200      404    200    200
POST /api/v1/sessions/{a} abort 401  401    401   401      200  200   404 404   404   404     404       200      404    200    200
POST /api/v1/sessions/{b} abort 401  401    401   401      404  404   200 404   404   404     404       200      404    200    200
POST /api/v1/sessions/{a}/objects  401 401  401   401      200  200   404 404   404   404     404       403      404    403    403
POST /api/v1/sessions/{b}/objects  401 401  401   401      404  404   200 404   404   404     404       403      404    403    403
POST /api/v1/sessions/{a}/salvage  401 401  401   401      200  200   404 404   404   404     404       403      404    403    403
POST /api/v1/sessions/{b}/salvage  401 401  401   401      404  404   200 404   404   404     404       403      404    403    403
POST /api/v1/sessions/{a}/finalize 401 401  401   401      202  202   404 404   404   404     404       403      404    403    403
POST /api/v1/sessions/{b}/finalize 401 401  401   401      404  404   202 404   404   404     404       403      404    403    403
POST /api/v1/sessions/{a}/owner to-all  401 401 401 401  403  403   404 404   404   404     404       200      404    200    200
POST /api/v1/sessions/{b}/owner to-all  401 401 401 401  404  404   403 404   404   404     404       200      404    200    200
POST /api/v1/sessions/{a}/owner to-b    401 401 401 401  403  403   404 404   404   404     404       403      404    403    403
POST /api/v1/sessions/{a}/owner to-over 401 401 401 401  403  403   404 404   404   404     404       400      404    400    400
POST /files/ create-a           401  401    401   401      201  201   404 404   404   404     404       403      404    403    403
POST /files/ create-b           401  401    401   401      404  404   201 404   404   404     404       403      404    403    403
HEAD /files/{a}/p               401  401    401   401      200  200   404 404   404   404     404       403      404    403    403
HEAD /files/{b}/p               401  401    401   401      404  404   200 404   404   404     404       403      404    403    403
PATCH /files/{a}/p              401  401    401   401      204  204   404 404   404   404     404       403      404    403    403
PATCH /files/{b}/p              401  401    401   401      404  404   204 404   404   404     404       403      404    403    403
DELETE /files/{a}/p             401  401    401   401      204  204   404 404   404   404     404       403      404    403    403
DELETE /files/{b}/p             401  401    401   401      404  404   204 404   404   404     404       403      404    403    403
GET /metrics                    401  401    401   401      403  403   403 403   403   403     403       403      200    200    200
HEAD /metrics                   401  401    401   401      403  403   403 403   403   403     403       403      200    200    200
GET /files/{a}/p                401  401    401   401      405  405   405 405   405   405     405       405      405    405    405
PUT /api/v1/sessions/{a}        401  401    401   401      405  405   405 405   405   405     405       405      405    405    405
GET /api/v2/nothing             401  401    401   401      404  404   404 404   404   404     404       404      404    404    404
`

// whoBodies are the bodies and headers of requests, by the word behind their path.
var whoBodies = map[string]struct {
	body    string
	headers []string
}{
	"os/a/x":   {body: `{"refs": [{"ref": "os/a/x", "new": "` + someCommit + `"}]}`},
	"os/b":     {body: `{"refs": [{"ref": "os/b", "new": "` + someCommit + `"}]}`},
	"both":     {body: `{"refs": [{"ref": "os/a/x", "new": "` + someCommit + `"}, {"ref": "os/b", "new": "` + someCommit + `"}]}`},
	"force":    {body: `{"force": true, "refs": [{"ref": "os/a/x", "new": "` + someCommit + `"}]}`},
	"dry-a":    {body: `{"dry-run": true, "refs": [{"ref": "os/a/x", "new": "` + someCommit + `"}]}`},
	"dry-b":    {body: `{"dry-run": true, "refs": [{"ref": "os/b", "new": "` + someCommit + `"}]}`},
	"to-all":   {body: `{"token": "all"}`},
	"to-b":     {body: `{"token": "b"}`},
	"to-over":  {body: `{"token": "over"}`},
	"abort":    {headers: []string{"X-HTTP-Method-Override", "DELETE"}},
	"create-a": {headers: []string{"Tus-Resumable", "1.0.0", "Upload-Length", "10", "Upload-Metadata", "{meta a}"}},
	"create-b": {headers: []string{"Tus-Resumable", "1.0.0", "Upload-Length", "10", "Upload-Metadata", "{meta b}"}},
	"files":    {body: "OST", headers: []string{"Tus-Resumable", "1.0.0", "Upload-Offset", "0", "Content-Type", "application/offset+octet-stream"}},
}

var someCommit = strings.Repeat("1", 64)

// holders makes the tokens of the table, and returns their secrets by their name.
func holders(t *testing.T, s *ts.Server) map[string]string {
	only := []string{"os/a/**"}
	secrets := map[string]string{"none": "", "nobody": "somebody's secret"}
	for name, o := range map[string]token.Options{
		"over":       {Refs: only},
		"a":          {Refs: only},
		"b":          {Refs: []string{"os/b"}},
		"all":        {},
		"no-ref":     {Refs: []string{}},
		"force":      {Refs: only, Scopes: []string{token.Push, token.Force}},
		"only-force": {Refs: only, Scopes: []string{token.Force}},
		"sessions":   {Scopes: []string{token.Sessions}},
		"metrics":    {Scopes: []string{token.Metrics}},
		"admin":      {Scopes: []string{token.Admin}},
		"admin-a":    {Refs: only, Scopes: []string{token.Admin}},
	} {
		o.Name = name
		secrets[name] = s.AddToken(o)
	}
	secrets["earlier"], secrets["replaced"] = "what a had before", "what a had long before"
	s.Change(func(c *config.Config) {
		for i := range c.Tokens {
			switch t := &c.Tokens[i]; t.Name {
			case "over":
				t.Expires = t.Created
			case "a":
				t.Previous = []token.Secret{
					{SHA256: token.Hash(secrets["replaced"]), Until: time.Now()},
					{SHA256: token.Hash(secrets["earlier"]), Until: time.Now().Add(time.Hour)},
				}
			}
		}
		c.Limits.MaxSessions = 0
	})
	return secrets
}

// TestWhoMay pins the status of each request for each token, and that a request which
// is refused changes nothing, and tells no more of a session than of one that there is
// not.
func TestWhoMay(t *testing.T) {
	s := ts.Start(t, "archive")
	secrets := holders(t, s)
	commit := signedRef(t, s, "os/a/x")
	lines := strings.Split(strings.TrimSpace(whoMay), "\n")
	tokens := strings.Fields(strings.Replace(lines[0], "|", "", 1))
	cells, w := 0, &asking{t: t, s: s, secrets: secrets, commit: commit}
	for _, line := range lines[1:] {
		request, statuses := strings.Fields(line), []string(nil)
		statuses, request = request[len(request)-len(tokens):], request[:len(request)-len(tokens)]
		for i, name := range tokens {
			want, err := strconv.Atoi(statuses[i])
			if err != nil {
				t.Fatal(err)
			}
			w.ask(name, request, want)
			cells++
		}
	}
	if cells < 100 {
		t.Errorf("only %d cells", cells)
	}
}

// asking sends the requests of the table, about two sessions that are new after each
// request that may have changed them.
type asking struct {
	t       *testing.T
	s       *ts.Server
	secrets map[string]string
	commit  string
	a, b    string // sessions
	before  string // their state
}

func (w *asking) ask(name string, request []string, want int) {
	w.t.Helper()
	if w.before == "" {
		w.a, w.b = w.open("a", "os/a/x"), w.open("b", "os/b")
		w.before = w.state()
	}
	got := w.send(name, request, w.a, w.b)
	if got.Status != want {
		w.t.Errorf("%s by %s: status %d, want %d: %s", strings.Join(request, " "), name, got.Status, want, got.Body)
	}
	if want < 400 {
		if !slices.Contains([]string{"GET", "HEAD", "OPTIONS"}, request[0]) {
			w.before = ""
		}
		return
	}
	if after := w.state(); after != w.before {
		w.t.Errorf("%s by %s is refused and changed\n%s to\n%s", strings.Join(request, " "), name, w.before, after)
	}
	if want == 404 || want == 401 {
		const noneA, noneB = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"
		other := w.send(name, request, noneA, noneB)
		said := strings.NewReplacer(noneA, w.a, noneB, w.b).Replace(string(other.Body))
		if other.Status != got.Status || said != string(got.Body) || !slices.Equal(headerNames(got), headerNames(other)) {
			w.t.Errorf("%s by %s is answered otherwise than for a session that there is not:\n%s\n%s", strings.Join(request, " "), name, got.Body, other.Body)
		}
	}
}

func headerNames(a ts.Answer) []string { return slices.Sorted(maps.Keys(a.Header)) }

// open opens a session of a token, with an upload.
func (w *asking) open(name, ref string) string {
	w.t.Helper()
	c := w.s.Client(w.secrets[name])
	session := c.Open(wire.Ref{Ref: ref, New: someCommit})
	if a := c.Create(10, ts.Metadata("session", session.ID, "pack", "p")); a.Status != 201 {
		w.t.Fatalf("%d %s", a.Status, a.Body)
	}
	return session.ID
}

// state is all that can be seen: both sessions, and how many there are.
func (w *asking) state() string {
	w.t.Helper()
	admin := w.s.Client(w.s.Admin)
	all := admin.Want(200, "GET", "/api/v1/sessions?limit=1", nil)
	return fmt.Sprintf("%s%s%s", all.Body, admin.Want(200, "GET", "/api/v1/sessions/"+w.a, nil).Body, admin.Want(200, "GET", "/api/v1/sessions/"+w.b, nil).Body)
}

// send sends a request of the table, about these sessions.
func (w *asking) send(name string, request []string, a, b string) ts.Answer {
	w.t.Helper()
	fill := strings.NewReplacer("{a}", a, "{b}", b, "{commit}", w.commit,
		"{meta a}", ts.Metadata("session", a, "pack", "q"), "{meta b}", ts.Metadata("session", b, "pack", "q"))
	with := whoBodies["files"]
	if len(request) > 2 {
		with = whoBodies[request[2]]
	} else if !strings.HasPrefix(request[1], "/files/") {
		with.body, with.headers = "", nil
	}
	headers := append([]string{wire.RequestHeader, "one"}, with.headers...)
	for i := range headers {
		headers[i] = fill.Replace(headers[i])
	}
	return w.s.Client(w.secrets[name]).Do(request[0], fill.Replace(request[1]), []byte(with.body), headers...)
}

// signedRef makes a commit with detached metadata in the server's repository.
func signedRef(t *testing.T, s *ts.Server, ref string) (commit string) {
	t.Helper()
	commit = ts.Commit(t, s.Repo, ref, "one", 3).String()
	t.Setenv("OSTREE_DUMMY_SIGN_ENABLED", "1")
	must.OSTree(t, "sign", "--repo="+s.Repo, "--sign-type=dummy", commit, "key")
	return commit
}

// TestWhatTokensSee pins which refs and sessions a list has for each token: the refs
// that it may push, and the sessions of its name unless it may see all.
func TestWhatTokensSee(t *testing.T) {
	s := ts.Start(t, "archive")
	secrets := holders(t, s)
	for _, ref := range []string{"os/a/x", "os/b", "other"} {
		ts.Commit(t, s.Repo, ref, ref, 1)
	}
	w := &asking{t: t, s: s, secrets: secrets}
	named := map[string]string{w.open("a", "os/a/x"): "a", w.open("b", "os/b"): "b", w.open("all", "other"): "all"}
	for name, want := range map[string]struct{ refs, sessions string }{
		"a": {"os/a/x", "a"}, "earlier": {"os/a/x", "a"}, "b": {"os/b", "b"}, "all": {"os/a/x os/b other", "all"},
		"no-ref": {"", ""}, "force": {"os/a/x", ""}, "only-force": {"", ""}, "metrics": {"", ""},
		"sessions": {"", "a all b"}, "admin": {"os/a/x os/b other", "a all b"}, "admin-a": {"os/a/x", "a all b"},
	} {
		c := s.Client(secrets[name])
		var refs wire.RefList
		must.OK(t, json.Unmarshal(c.Want(200, "GET", "/api/v1/refs", nil).Body, &refs))
		if got := strings.Join(slices.Sorted(maps.Keys(refs.Refs)), " "); got != want.refs {
			t.Errorf("%s sees refs %q, want %q", name, got, want.refs)
		}
		var list wire.SessionList
		must.OK(t, json.Unmarshal(c.Want(200, "GET", "/api/v1/sessions", nil).Body, &list))
		var sessions []string
		for _, session := range list.Sessions {
			sessions = append(sessions, named[session.ID])
		}
		slices.Sort(sessions)
		if got := strings.Join(sessions, " "); got != want.sessions {
			t.Errorf("%s sees the sessions of %q, want %q", name, got, want.sessions)
		}
	}
}
