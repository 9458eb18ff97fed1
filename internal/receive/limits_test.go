// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/units"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/objects"
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
	must.Wait(t, "all of them are deleted", func() bool {
		deleted += clean()
		return deleted >= len(all)
	})
	if deleted != len(all) {
		t.Errorf("%d staged objects deleted, want %d", deleted, len(all))
	}
	if there, err := s.Store.Has(ostree.Name{Checksum: commit, Type: ostree.CommitObject}); err != nil || there {
		t.Errorf("still staged: %v, %v", there, err)
	}
}

// What a client has to know before it sends anything stands in the info: limits,
// the room on the disk, and what its own token may do.
func TestInfo(t *testing.T) {
	s := ts.Start(t, "archive")
	s.Change(func(c *config.Config) { c.Limits.MaxMetadataSize, c.Limits.MinFreeSpace = 20<<20, 0 })
	info := func(token string) (info wire.Info) {
		t.Helper()
		must.OK(t, json.Unmarshal(s.Client(token).Want(200, "GET", "/api/v1/info", nil).Body, &info))
		return info
	}
	i := info(s.Other)
	if i.Limits.MaxMetadataSize != 20<<20 || *i.Free <= 0 || i.Token.Name != "other" || (*i.Token.Refs)[0] != "other/**" || i.Token.Scopes[0] != "push" {
		t.Errorf("%+v, token %+v", i, i.Token)
	}
	s.Change(func(c *config.Config) { c.Limits.MinFreeSpace = 1 << 60 })
	if i := info(s.Token); *i.Free != 0 || i.Token.Refs != nil {
		t.Errorf("free %d, token %+v", *i.Free, i.Token)
	}
}

// A question for a session, or for objects without one, changes nothing, and is
// answered as what it asks for.
func TestAskBeforeOpening(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	c.Push(repo, wire.Ref{Ref: "x", New: commit.String()})
	absent := ostree.Name{Checksum: ostree.Checksum{1}, Type: ostree.File}
	ask := wire.FormatNames(append(ts.Objects(t, repo, commit), absent))
	if a := c.Want(200, "POST", "/api/v1/objects", ask); !bytes.Equal(a.Body, wire.FormatNames([]ostree.Name{absent})) {
		t.Errorf("it lacks %s", a.Body)
	}
	viewer := s.Client(s.AddToken(token.Options{Name: "viewer", Scopes: []string{token.Sessions}}))
	viewer.Want(403, "POST", "/api/v1/objects", ask)
	open := func(ref string) []byte {
		b, err := json.Marshal(wire.OpenRequest{Refs: []wire.Ref{{Ref: ref, New: commit.String()}}, DryRun: true})
		must.OK(t, err)
		return b
	}
	c.Want(204, "POST", "/api/v1/sessions", open("y"))
	c.Want(422, "POST", "/api/v1/sessions", open("x/y"))
	s.Client(s.Other).Want(403, "POST", "/api/v1/sessions", open("y"))
	if list, err := s.Journal.Sessions(nil); err != nil || len(list) != 1 {
		t.Errorf("%d sessions, %v", len(list), err)
	}
}

// What the repository's mode cannot keep is refused when it is published, whatever
// the client has found out before.
func TestModeThatKeepsLess(t *testing.T) {
	for mode, spoil := range map[string]func(f *objects.File){
		"bare-user-only": func(f *objects.File) { f.Mode = 0o104755 },
		"bare-user": func(f *objects.File) {
			f.Xattrs = objects.Xattrs("user.a\x00", strings.Repeat("v", 40<<10), "user.b\x00", strings.Repeat("v", 40<<10))
		},
		"bare": func(f *objects.File) { f.Xattrs = objects.Xattrs("user.b\x00", "2", "user.a\x00", "1") },
	} {
		t.Run(mode, func(t *testing.T) {
			if mode == "bare" && os.Geteuid() != 0 {
				t.Skip("needs root: a bare repository can only be written by it")
			}
			s := ts.Start(t, mode)
			c := s.Client(s.Token)
			f := objects.SoundFile("kept")
			spoil(f)
			o := f.Object()
			sum, others := objects.CommitOf(o, mode)
			session := c.Open(wire.Ref{Ref: "x", New: hex.EncodeToString(sum[:])})
			for _, x := range append(others, o) {
				n, err := ostree.ParseName(x.Name())
				must.OK(t, err)
				if len(c.Negotiate(session.ID, n)) > 0 {
					c.Upload(session.ID, x.Name(), x.Bytes)
				}
			}
			if got := c.Finalize(session.ID); got.State != wire.Failed || got.Error != wire.Policy || !strings.Contains(got.Detail, mode) || s.Ref("x") != "" {
				t.Errorf("%s, %s: %s", got.State, got.Error, got.Detail)
			}
		})
	}
}
