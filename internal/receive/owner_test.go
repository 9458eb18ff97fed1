// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"encoding/json"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A session that an operator hands over belongs to the other token, which goes on with what
// has arrived; the one before finds it no more, and the session says who did that. One that
// has ended stays whose it was.
func TestHandOver(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	one, two := s.Client(s.AddToken(token.Options{Name: "one"})), s.Client(s.AddToken(token.Options{Name: "two", Refs: []string{"x"}}))
	ops := s.Client(s.AddToken(token.Options{Name: "ops", Scopes: []string{token.Sessions}}))
	session := one.Open(wire.Ref{Ref: "x", New: commit.String()})
	all := ts.Objects(t, repo, commit)
	one.Negotiate(session.ID, all...)
	one.Upload(session.ID, "all", ts.Pack(t, repo, all...))

	path := "/api/v1/sessions/" + session.ID
	handOver := func(to string, want int) (got wire.Session) {
		t.Helper()
		a := ops.Want(want, "POST", path+"/owner", []byte(`{"token": "`+to+`"}`))
		if want == 200 {
			must.OK(t, json.Unmarshal(a.Body, &got))
		}
		return got
	}
	handOver("nobody", 400)
	handOver("other", 403) // may not push x
	handOver("two", 200)
	got := handOver("two", 200) // once more changes nothing
	if got.Token != "two" || len(got.Handed) != 1 || got.Handed[0].From != "one" || got.Handed[0].To != "two" || got.Handed[0].By != "ops" || got.Handed[0].At.IsZero() {
		t.Errorf("%+v", got)
	}
	one.Want(404, "GET", path, nil)
	one.Want(404, "POST", path+"/finalize", nil)
	if lacking := two.Negotiate(session.ID, all...); len(lacking) != 0 {
		t.Errorf("%d objects would be sent again", len(lacking))
	}
	if got := two.Finalize(session.ID); got.State != wire.Published || s.Ref("x") != commit.String() || len(got.Handed) != 1 {
		t.Errorf("%+v", got)
	}
	handOver("one", 409)

	s.Change(func(c *config.Config) { c.Limits.MaxSessions = 1 })
	two.Open(wire.Ref{Ref: "x", Old: commit.String(), New: someCommit})
	path = "/api/v1/sessions/" + one.Open(wire.Ref{Ref: "x", Old: commit.String(), New: someCommit}).ID
	handOver("two", 429)
}

// A session is handed over to who may do what it does: one that deletes a ref, to a token of
// scope delete, and one that moves refs among commits, to one of scope promote.
func TestHandOverOfMoves(t *testing.T) {
	v := newVerbs(t)
	v.in = "os/a/x"
	v.place(v.in)
	ops := v.client("sessions", "all")
	names := map[string]string{}
	for _, scope := range []string{"push", "promote", "delete"} {
		names[scope] = "to-" + scope
		v.s.AddToken(token.Options{Name: names[scope], Scopes: []string{scope}})
	}
	for _, c := range []struct {
		by   string
		open wire.OpenRequest
		want map[string]int
	}{
		{"delete", wire.OpenRequest{Refs: []wire.Ref{{Ref: v.in, Old: v.commits[1]}}}, map[string]int{"push": 403, "promote": 403, "delete": 200}},
		{"promote", wire.OpenRequest{Promote: true, Force: true, Refs: []wire.Ref{{Ref: v.in, Old: v.commits[1], New: v.commits[0]}}}, map[string]int{"push": 403, "delete": 403, "promote": 200}},
	} {
		var session wire.Session
		body, err := json.Marshal(c.open)
		must.OK(t, err)
		a := v.client(c.by, "all").Want(201, "POST", "/api/v1/sessions", body)
		must.OK(t, json.Unmarshal(a.Body, &session))
		for scope, want := range c.want {
			got := ops.Do("POST", "/api/v1/sessions/"+session.ID+"/owner", []byte(`{"token": "`+names[scope]+`"}`))
			if got.Status != want {
				t.Errorf("session of scope %s to a token of scope %s: %d, want %d", c.by, scope, got.Status, want)
			}
		}
	}
}

// A token that is given another secret, of the same name, goes on with its sessions; the
// secret before does not.
func TestReplacedTokenGoesOn(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	before := s.Client(s.AddToken(token.Options{Name: "ci2"}))
	session := before.Open(wire.Ref{Ref: "x", New: commit.String()})
	all := ts.Objects(t, repo, commit)
	before.Negotiate(session.ID, all...)
	before.Upload(session.ID, "all", ts.Pack(t, repo, all...))
	s.Change(func(c *config.Config) {
		for i := range c.Tokens {
			if c.Tokens[i].Name == "ci2" {
				c.Tokens[i].SHA256 = token.Hash("another secret")
			}
		}
	})
	before.Want(401, "GET", "/api/v1/sessions/"+session.ID, nil)
	now := s.Client("another secret")
	if lacking := now.Negotiate(session.ID, all...); len(lacking) != 0 {
		t.Errorf("%d objects would be sent again", len(lacking))
	}
	if got := now.Finalize(session.ID); got.State != wire.Published || got.Token != "ci2" || got.Handed != nil {
		t.Errorf("%+v", got)
	}
}
