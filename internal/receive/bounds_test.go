// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/lirios/ostree-upload/test/must"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/wire"
	ts "github.com/lirios/ostree-upload/test/server"
)

// many gives refs below a name.
func many(name string, n int) (refs []wire.Ref) {
	for i := range n {
		refs = append(refs, wire.Ref{Ref: fmt.Sprint(name, "/", i), New: fmt.Sprintf("%064x", i)})
	}
	return refs
}

func opening(t *testing.T, refs []wire.Ref) []byte {
	t.Helper()
	b, err := json.Marshal(wire.OpenRequest{Refs: refs})
	must.OK(t, err)
	return b
}

// What one token may have open is bounded, in sessions, in refs of one and in refs
// of all; others are not touched by that, and what ends makes room.
func TestShareOfAToken(t *testing.T) {
	s := ts.Start(t, "archive")
	s.Change(func(c *config.Config) { c.Limits.MaxSessions, c.Limits.MaxRefs = 3, 100 })
	c := s.Client(s.Token)
	if a := c.Do("POST", "/api/v1/sessions", opening(t, many("x", 101))); a.Status != 413 || a.Problem(t).Code() != wire.TooLarge || a.Problem(t).HintIs == "" {
		t.Errorf("too many refs: %d %s", a.Status, a.Body)
	}
	var ids []string
	for range 3 {
		ids = append(ids, c.Open(many("x", 1)...).ID)
	}
	refused := func(refs []wire.Ref) {
		t.Helper()
		if a := c.Do("POST", "/api/v1/sessions", opening(t, refs)); a.Status != 429 || a.Problem(t).Code() != wire.Quota || a.Problem(t).HintIs == "" {
			t.Errorf("beyond the share: %d %s", a.Status, a.Body)
		}
	}
	refused(many("x", 1))
	s.Client(s.Other).Open(many("other", 100)...)
	c.Want(200, "DELETE", "/api/v1/sessions/"+ids[0], nil)
	c.Open(many("x", 1)...)

	s.Change(func(c *config.Config) { c.Limits.MaxSessions = 0 })
	for range 4 { // and the 3 that are there make 403 of 500 refs
		c.Open(many("x", 100)...)
	}
	refused(many("x", 100))
	c.Open(many("x", 97)...)
}

// A list comes in pages that together have each session once, newest first; its
// entries have the first refs and how many there are; a session is found by its
// moves.
func TestPages(t *testing.T) {
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	var want []string
	for range 7 {
		want = append(want, c.Open(many("x", 30)...).ID)
		s.Client(s.Other).Open(many("other", 1)...)
	}
	slices.Reverse(want)
	list := func(c *ts.Client, query string) (l wire.SessionList) {
		t.Helper()
		must.OK(t, json.Unmarshal(c.Want(200, "GET", "/api/v1/sessions"+query, nil).Body, &l))
		return l
	}
	var got []string
	for before := ""; ; {
		l := list(c, "?limit=3"+before)
		for _, s := range l.Sessions {
			got = append(got, s.ID)
			if len(s.Refs) != 10 || s.RefCount != 30 || s.Moves != (wire.OpenRequest{Refs: many("x", 30)}).Moves() {
				t.Errorf("listed with %d refs of %d", len(s.Refs), s.RefCount)
			}
		}
		if l.Next == "" {
			break
		}
		before = "&before=" + l.Next
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages have %v, want %v", got, want)
	}
	if whole := c.Session(want[0]); len(whole.Refs) != 30 {
		t.Errorf("the session has %d refs", len(whole.Refs))
	}
	one := c.Open(many("y", 20)...)
	if l := list(c, "?mine=1&state=open&moves="+one.Moves); len(l.Sessions) != 1 || l.Sessions[0].ID != one.ID {
		t.Errorf("by moves %+v", l)
	}
	if l := list(s.Client(s.Admin), "?limit=1000"); len(l.Sessions) != 15 {
		t.Errorf("%d sessions of all tokens", len(l.Sessions))
	}
	for _, query := range []string{"?limit=0", "?limit=1001", "?limit=x", "?state=paused"} {
		c.Want(400, "GET", "/api/v1/sessions"+query, nil)
	}
	s.Client(s.Other).Want(404, "GET", "/api/v1/sessions?before="+one.ID, nil)
}

// A session of more refs than its record holds publishes all of them.
func TestManyRefsArePublished(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	var refs []wire.Ref
	for i := range 60 {
		refs = append(refs, wire.Ref{Ref: fmt.Sprint("os/", i), New: commit.String()})
	}
	session := c.Open(refs...)
	c.Upload(session.ID, "all", ts.Pack(t, repo, c.Negotiate(session.ID, ts.Objects(t, repo, commit)...)...))
	got := c.Finalize(session.ID)
	if got.State != wire.Published || len(got.Refs) != 60 {
		t.Fatalf("%s, %d refs: %s", got.State, len(got.Refs), got.Detail)
	}
	for _, r := range refs {
		if s.Ref(r.Ref) != commit.String() {
			t.Errorf("ref %s is at %q", r.Ref, s.Ref(r.Ref))
		}
	}
}
