// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// whoReviews is what each token is answered about a session of the token ci, for the refs
// os/a/x and os/a/y: {held} is held, {open} is not, and {plain} was not opened to be held.
const whoReviews = `
                                     none other ci publish publish-a publish-x publish-b push+publish-b force sessions metrics admin
GET /api/v1/sessions/{held}           401   404 200     200       200       404       404            404   404      200     404   200
GET /api/v1/sessions/{open}           401   404 200     200       200       404       404            404   404      200     404   200
GET /api/v1/sessions/{plain}          401   404 200     404       404       404       404            404   404      200     404   200
GET /api/v1/sessions?state=held       401     0   1       1         1         0         0              0     0        1       0     1
GET /api/v1/sessions?state=open       401     0   2       0         0         0         0              0     0        2       0     2
DELETE /api/v1/sessions/{open}        401   404 200     404       404       404       404            404   404      200     404   200
POST /api/v1/sessions/{held}/publish  401   404 403     202       202       404       404            404   404      403     404   202
POST /api/v1/sessions/{open}/publish  401   404 403     409       409       404       404            404   404      403     404   409
POST /api/v1/sessions/{plain}/publish 401   404 403     404       404       404       404            404   404      403     404   409
POST /api/v1/sessions/{held}/reject   401   404 403     200       200       404       404            404   404      403     404   200
POST /api/v1/sessions/{open}/reject   401   404 403     409       409       404       404            404   404      403     404   409
POST /api/v1/sessions/{held}/objects  401   404 409     404       404       404       404            404   404      403     404   403
POST /api/v1/sessions/{held}/finalize 401   404 202     404       404       404       404            404   404      403     404   403
`

// TestWhoReviews pins who may see, publish and reject what is held, and that nobody else
// learns that there is such a session.
func TestWhoReviews(t *testing.T) {
	build := filepath.Join(t.TempDir(), "build")
	commit := ts.Commit(t, build, "main", "one", 3)
	s := ts.Start(t, "archive")
	secrets := map[string]string{"none": "", "other": s.Other, "ci": s.Token, "admin": s.Admin}
	for name, o := range map[string]token.Options{
		"publish":        {Scopes: []string{token.Publish}},
		"publish-a":      {Scopes: []string{token.Publish}, Refs: []string{"os/a/**"}},
		"publish-x":      {Scopes: []string{token.Publish}, Refs: []string{"os/a/x"}}, // one of two
		"publish-b":      {Scopes: []string{token.Publish}, Refs: []string{"os/b"}},
		"push+publish-b": {Scopes: []string{token.Push, token.Publish}, Refs: []string{"os/b"}},
		"force":          {Scopes: []string{token.Force}},
		"sessions":       {Scopes: []string{token.Sessions}},
		"metrics":        {Scopes: []string{token.Metrics}},
	} {
		o.Name = name
		secrets[name] = s.AddToken(o)
	}
	client := s.Client(s.Token)
	open := func(hold bool) wire.Session {
		body, err := json.Marshal(wire.OpenRequest{Hold: hold, Refs: []wire.Ref{{Ref: "os/a/x", New: commit.String()}, {Ref: "os/a/y", New: commit.String()}}})
		must.OK(t, err)
		var session wire.Session
		must.OK(t, json.Unmarshal(client.Want(201, "POST", "/api/v1/sessions", body).Body, &session))
		return session
	}
	lines := strings.Split(strings.TrimSpace(whoReviews), "\n")
	tokens := strings.Fields(lines[0])
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		for i, name := range tokens {
			held := open(true)
			client.Upload(held.ID, "all", ts.Pack(t, build, client.Negotiate(held.ID, ts.Objects(t, build, commit)...)...))
			if got := client.Finalize(held.ID); got.State != wire.Held {
				t.Fatalf("%+v", got)
			}
			ids := map[string]string{"{held}": held.ID, "{open}": open(true).ID, "{plain}": open(false).ID}
			path := cells[1]
			for word, id := range ids {
				path = strings.Replace(path, word, id, 1)
			}
			var body []byte
			if strings.HasSuffix(path, "/reject") {
				body = []byte(`{"reason": "no"}`)
			}
			a := s.Client(secrets[name]).Do(cells[0], path, body)
			got := fmt.Sprint(a.Status)
			if a.Status == 200 && strings.Contains(path, "?") {
				var list wire.SessionList
				must.OK(t, json.Unmarshal(a.Body, &list))
				got = fmt.Sprint(len(list.Sessions))
			}
			if want := cells[2+i]; got != want {
				t.Errorf("%s %s by %s: %s, want %s: %s", cells[0], cells[1], name, got, want, a.Body)
			}
			for _, id := range ids {
				must.Wait(t, "nothing is under way", func() bool {
					now := client.Session(id).State
					return now != wire.Verifying && now != wire.Publishing
				})
				client.Do("DELETE", "/api/v1/sessions/"+id, nil)
			}
			if s.Ref("os/a/x") != "" {
				must.OSTree(t, "refs", "--repo="+s.Repo, "--delete", "os/a/x", "os/a/y")
			}
		}
	}
}
