// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/units"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// What a token lost since it opened a session it may not publish.
func TestRightsAtFinalize(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	c.Upload(session.ID, "all", ts.Pack(t, repo, c.Negotiate(session.ID, ts.Objects(t, repo, commit)...)...))
	s.Change(func(c *config.Config) { c.Tokens[0].Refs = &[]string{"other/**"} })
	a := c.Want(403, "POST", "/api/v1/sessions/"+session.ID+"/finalize", nil)
	if a.Problem(t).Code() != wire.Forbidden || c.Session(session.ID).State != wire.Open {
		t.Errorf("%s", a.Body)
	}
}

// No way of naming uploads gets around max-session-size, and uploads that
// nobody fills are bounded.
func TestSessionSize(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	all := ts.Objects(t, repo, commit)
	c.Negotiate(session.ID, all...)
	pack := ts.Pack(t, repo, all...)
	s.Change(func(c *config.Config) { c.Limits.MaxSessionSize = units.Size(3 * len(pack)) })
	taken := 0
	for range 6 {
		a := c.Create(len(pack)+1, ts.Metadata("session", session.ID, "pack", "p"))
		if a.Status == 413 {
			break
		}
		c.Patch(session.ID, "p", 0, pack)
		taken += len(pack)
		c.Want(200, "POST", "/api/v1/sessions/"+session.ID+"/salvage", nil)
	}
	if taken > 3*len(pack) || c.Session(session.ID).Bytes.Received != int64(taken) {
		t.Errorf("%d bytes taken with a limit of %d, %d counted", taken, 3*len(pack), c.Session(session.ID).Bytes.Received)
	}
	s.Change(func(c *config.Config) { c.Limits.MaxSessionSize = 0 })
	last := 0
	for i := 0; last != 429 && i < 1000; i++ {
		a := c.Create(1, ts.Metadata("session", session.ID, "pack", fmt.Sprint("q", i)))
		last = a.Status
	}
	if last != 429 {
		t.Errorf("uploads without end, the last answered %d", last)
	}
	other := c.Open(wire.Ref{Ref: "y", New: commit.String()})
	s.Change(func(c *config.Config) { c.Limits.MinFreeSpace = 1 << 60 })
	body := fmt.Sprintf(`{"refs":[{"ref":"z","old":"","new":"%s"}]}`, commit)
	if a := c.Do("POST", "/api/v1/sessions", []byte(body)); a.Status != 507 {
		t.Errorf("a session on a full disk: %d %s", a.Status, a.Body)
	}
	if a := c.Create(1, ts.Metadata("session", other.ID, "pack", "p")); a.Status != 507 || a.Problem(t).Code() != wire.InsufficientStorage {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// A session that is used does not expire, however short its time; one that is
// not does.
func TestExpiry(t *testing.T) {
	_, commit := source(t)
	s := ts.Start(t, "archive")
	s.Change(func(c *config.Config) { c.SessionTTL = units.Duration(time.Minute) })
	c := s.Client(s.Token)
	idle := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	used := c.Open(wire.Ref{Ref: "y", New: commit.String()})
	sending := c.Open(wire.Ref{Ref: "z", New: commit.String()})
	c.Create(10, ts.Metadata("session", sending.ID, "pack", "p"))
	c.Patch(sending.ID, "p", 0, []byte("12345"))
	active := func(id string) (time.Time, error) {
		if id == used.ID {
			return time.Now().Add(time.Hour), nil
		}
		return s.Store.Active(id)
	}
	must.OK(t, s.Publisher.Expire(time.Now(), active))
	if got := c.Session(idle.ID).State; got != wire.Open {
		t.Fatalf("expired early: %s", got)
	}
	must.OK(t, s.Publisher.Expire(time.Now().Add(time.Hour), active))
	for id, state := range map[string]string{idle.ID: wire.Expired, used.ID: wire.Open, sending.ID: wire.Expired} {
		if got := c.Session(id).State; got != state {
			t.Errorf("session is %s, want %s", got, state)
		}
	}
	if c.Offset(sending.ID, "p") != -1 {
		t.Error("an upload outlives its session")
	}
	c.Want(409, "POST", "/api/v1/sessions/"+idle.ID+"/finalize", nil)
}

// Only what no living session needs is cleaned away, while it is used.
func TestClean(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	all := ts.Objects(t, repo, commit)
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	c.Upload(session.ID, "all", ts.Pack(t, repo, c.Negotiate(session.ID, all...)...))
	c.Negotiate(session.ID, all...)
	clean := func() int {
		n, err := s.Store.Clean(t.Context())
		must.OK(t, err)
		return n
	}
	if n := clean(); n != 0 {
		t.Fatalf("%d objects of an open session deleted", n)
	}
	if got := c.Finalize(session.ID); got.State != wire.Published {
		t.Fatalf("%+v", got)
	}
	// The publisher may hold them a moment longer than it takes to say so.
	deleted := 0
	for end := time.Now().Add(time.Minute); deleted < len(all) && time.Now().Before(end); {
		deleted += clean()
	}
	if deleted != len(all) {
		t.Errorf("%d staged objects deleted, want %d", deleted, len(all))
	}
	if there, err := s.Store.Has(ostree.Name{Checksum: commit, Type: ostree.CommitObject}); err != nil || there {
		t.Errorf("still staged: %v, %v", there, err)
	}
}
