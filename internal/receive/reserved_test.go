// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/units"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A token claims max-reserved and no more, in all its sessions together, also after
// a restart. Other tokens get in all the same, up to their own share. What is sent or
// ended is no claim any more.
func TestReserved(t *testing.T) {
	_, commit := source(t)
	s := ts.Start(t, "archive")
	s.Change(func(c *config.Config) { c.Limits.MaxReserved = 1000 })
	c, o := s.Client(s.Token), s.Client(s.AddToken(token.Options{Name: "second"}))
	create := func(c *ts.Client, session, pack string, length, status int) {
		t.Helper()
		a := c.Create(length, ts.Metadata("session", session, "pack", pack))
		if a.Status != status {
			t.Fatalf("%d bytes: status %d, want %d: %s", length, a.Status, status, a.Body)
		}
		if status == 201 {
			return
		}
		if p := a.Problem(t); !strings.Contains(p.Error(), "max-reserved") || !strings.Contains(p.Error(), "ci") {
			t.Errorf("it does not name the limit and the token: %v", p)
		}
	}
	first, second := c.Open(wire.Ref{Ref: "x", New: commit.String()}), c.Open(wire.Ref{Ref: "y", New: commit.String()})
	create(c, first.ID, "a", 600, 201)
	create(c, second.ID, "a", 400, 201)
	create(c, second.ID, "b", 1, 429)
	create(c, second.ID, "b", 1001, 413)
	others := o.Open(wire.Ref{Ref: "z", New: commit.String()})
	create(o, others.ID, "a", 1000, 201)

	s.Stop()
	s.Run()
	c = s.Client(s.Token)
	create(c, second.ID, "b", 1, 429)
	if a := c.Patch(first.ID, "a", 0, make([]byte, 100)); a.Status != 204 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	create(c, second.ID, "b", 100, 201)
	create(c, second.ID, "c", 1, 429)
	c.Want(200, "DELETE", "/api/v1/sessions/"+first.ID, nil)
	create(c, second.ID, "c", 500, 201)
	s.Change(func(c *config.Config) { c.Limits.MaxReserved = 0 })
	create(c, second.ID, "d", 5000, 201)
}

// An upload that was created while there was room takes no more bytes once there is
// none.
func TestFullSinceCreation(t *testing.T) {
	_, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	c.Create(10, ts.Metadata("session", session.ID, "pack", "p"))
	s.Change(func(c *config.Config) { c.Limits.MinFreeSpace = 1 << 60 })
	if a := c.Patch(session.ID, "p", 0, []byte("12345")); a.Status != 507 || a.Problem(t).Code() != wire.InsufficientStorage {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	s.Change(func(c *config.Config) { c.Limits.MinFreeSpace = units.Size(1) })
	if a := c.Patch(session.ID, "p", 0, []byte("12345")); a.Status != 204 || c.Offset(session.ID, "p") != 5 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// An object that was staged by an upload of its own and is gone can be created again,
// once the client has asked what is lacking.
func TestStagedObjectGone(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	all := ts.Objects(t, repo, commit)
	for _, n := range c.Negotiate(session.ID, all...) {
		c.Upload(session.ID, n.String(), ts.Object(t, repo, n))
	}
	if lacking := c.Negotiate(session.ID, all...); len(lacking) > 0 {
		t.Fatalf("%v are not staged", lacking)
	}
	must.OK(t, os.Remove(filepath.Join(s.Store.StagedPath(), "objects", all[0].Path())))
	lacking := c.Negotiate(session.ID, all...)
	if fmt.Sprint(lacking) != fmt.Sprint(all[:1]) {
		t.Fatalf("lacking %v, want %v", lacking, all[0])
	}
	c.Upload(session.ID, all[0].String(), ts.Object(t, repo, all[0]))
	if got := c.Finalize(session.ID); got.State != wire.Published {
		t.Errorf("%+v", got)
	}
}
