// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/units"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// hold opens a session that is to be held, sends all that it lacks, and has it verified.
func (h *checkedHost) hold(ref string, old string, commit ostree.Checksum) wire.Session {
	h.t.Helper()
	client := h.Client(h.Token)
	body, err := json.Marshal(wire.OpenRequest{Refs: []wire.Ref{{Ref: ref, Old: old, New: commit.String()}}, Hold: true})
	must.OK(h.t, err)
	var s wire.Session
	must.OK(h.t, json.Unmarshal(client.Want(201, "POST", "/api/v1/sessions", body).Body, &s))
	if lacking := client.Negotiate(s.ID, ts.Objects(h.t, h.build, commit)...); len(lacking) > 0 {
		client.Upload(s.ID, "all", ts.Pack(h.t, h.build, lacking...))
	}
	return client.Finalize(s.ID)
}

// publish has a held session published by a token, and waits for the outcome.
func (h *checkedHost) publish(secret, id string) wire.Session {
	h.t.Helper()
	client := h.Client(secret)
	client.Want(202, "POST", "/api/v1/sessions/"+id+"/publish", nil)
	for {
		var s wire.Session
		must.OK(h.t, json.Unmarshal(client.Want(200, "GET", "/api/v1/sessions/"+id+"?wait=30s", nil).Body, &s))
		if s.State != wire.Verifying && s.State != wire.Publishing {
			return s
		}
	}
}

func newHoldingHost(t *testing.T, script string) (h *checkedHost, publisher string) {
	h = newCheckedHost(t, "archive", script, "one", "two", "three")
	return h, h.AddToken(token.Options{Name: "release", Scopes: []string{token.Publish}})
}

// What is held is verified and complete, and nothing of it shows until somebody else has
// it published. The check of the operator has looked at it before, and not once more.
func TestHold(t *testing.T) {
	h, publisher := newHoldingHost(t, "echo $OSTREE_REFS >> DIR/ran")
	s := h.hold("x", "", h.commits[0])
	want(t, s, wire.Held, "", "")
	if in := time.Until(s.Expires); !s.Hold || in < 719*time.Hour || in > 721*time.Hour {
		t.Errorf("it is %+v", s)
	}
	if found, err := filepath.Glob(filepath.Join(h.Repo, "objects/*/*")); err != nil || len(found) > 0 || h.Ref("x") != "" {
		t.Errorf("in the repository are %q, %v, x at %q", found, err, h.Ref("x"))
	}
	h.Stop()
	h.Run()
	_, err := h.Clean(t.Context())
	must.OK(t, err)
	s = h.publish(publisher, s.ID)
	want(t, s, wire.Published, "", "")
	if s.By != "release" || s.Token != "ci" || h.Ref("x") != h.commits[0].String() {
		t.Errorf("it is %+v, x at %s", s, h.Ref("x"))
	}
	if got := h.read("ran"); got != "x\n" {
		t.Errorf("checked for %q", got)
	}
	h.Client(publisher).Want(202, "POST", "/api/v1/sessions/"+s.ID+"/publish", nil) // the answer may have been lost

	h.check("false")
	want(t, h.hold("x", h.commits[0].String(), h.commits[1]), wire.Failed, wire.Policy, "")
}

// A rejected session ends, with the reason.
func TestReject(t *testing.T) {
	h, publisher := newHoldingHost(t, "")
	s := h.hold("x", "", h.commits[0])
	client := h.Client(publisher)
	path := "/api/v1/sessions/" + s.ID + "/reject"
	for _, body := range []string{"", "{}", `{"reason": "` + strings.Repeat("x", wire.MaxReason+1) + `"}`} {
		client.Want(400, "POST", path, []byte(body))
	}
	client.Want(200, "POST", path, []byte(`{"reason": "the logo is wrong"}`))
	s = h.Client(h.Token).Session(s.ID)
	want(t, s, wire.Rejected, "", "the logo is wrong")
	if s.By != "release" {
		t.Errorf("by %q", s.By)
	}
	if p := client.Want(409, "POST", "/api/v1/sessions/"+s.ID+"/publish", nil).Problem(t); p.Detail != "session "+s.ID+" is rejected, and not held" {
		t.Error(p.Detail)
	}
	client.Want(409, "POST", path, []byte(`{"reason": "again"}`))
	deleted, err := h.Clean(t.Context())
	must.OK(t, err)
	if deleted.Objects == 0 {
		t.Error("its objects stay staged")
	}
}

// What cannot be published any more stays held, and can be once that is mended: a ref that
// moved, a signature that lacks by now, a token that was taken away.
func TestHeldStaysHeld(t *testing.T) {
	h, publisher := newHoldingHost(t, "")
	client := h.Client(h.Token)
	s := h.hold("x", "", h.commits[0])
	want(t, client.Push(h.build, wire.Ref{Ref: "x", New: h.commits[1].String()}), wire.Published, "", "")
	got := h.publish(publisher, s.ID)
	want(t, got, wire.Held, wire.RefMoved, "ref x is at "+h.commits[1].String())
	if !got.Expires.Equal(s.Expires) || got.By != "" {
		t.Errorf("it is %+v", got)
	}
	must.OSTree(t, "refs", "--repo="+h.Repo, "--delete", "x")
	h.Change(func(c *config.Config) {
		c.Policy = []config.Policy{{Name: "policy 1", Require: 1, Ed25519: []ed25519.PublicKey{make([]byte, ed25519.PublicKeySize)}}}
	})
	want(t, h.publish(publisher, s.ID), wire.Held, wire.Policy, "it has 0 good signatures")
	var tokens []token.Token
	h.Change(func(c *config.Config) {
		tokens, c.Policy = c.Tokens, nil
		c.Tokens = []token.Token{*c.Named("release", time.Now())}
	})
	want(t, h.publish(publisher, s.ID), wire.Held, wire.Forbidden, "token ci was taken away")
	h.Change(func(c *config.Config) { c.Tokens = tokens })
	want(t, h.publish(publisher, s.ID), wire.Published, "", "")
}

// An object that is gone puts a held session back to open, and what comes then is held
// again.
func TestHeldLacksObjects(t *testing.T) {
	h, publisher := newHoldingHost(t, "")
	client := h.Client(h.Token)
	s := h.hold("x", "", h.commits[0])
	file := object(t, h.build, h.commits[0], ostree.File, h.commits[1])
	must.OK(t, os.Remove(filepath.Join(h.Store.StagedPath(), "objects", file.Path())))
	want(t, h.publish(publisher, s.ID), wire.Open, wire.MissingObjects, "")
	client.Upload(s.ID, "again", ts.Pack(t, h.build, client.Negotiate(s.ID, file)...))
	want(t, client.Finalize(s.ID), wire.Held, "", "")
	want(t, h.publish(publisher, s.ID), wire.Published, "", "")
}

// A stop, or a kill, while a held session is verified once more leaves it held.
func TestStoppedWhilePublishing(t *testing.T) {
	h, publisher := newHoldingHost(t, "")
	s := h.hold("x", "", h.commits[0])
	h.Stop()
	j, err := journal.OpenFile(filepath.Join(h.State, "journal.db"))
	must.OK(t, err)
	_, err = j.MoveFrom(s.ID, journal.Held, journal.Verifying, func(s *journal.Session) { s.By = "release" })
	must.OK(t, err)
	must.OK(t, j.Close())
	h.Run()
	want(t, h.Client(h.Token).Session(s.ID), wire.Held, "", "the server stopped while it verified; publish it again")
	want(t, h.publish(publisher, s.ID), wire.Published, "", "")
}

// What nobody decides about expires after hold-ttl, and not after session-ttl.
func TestHeldExpires(t *testing.T) {
	h, _ := newHoldingHost(t, "")
	h.Change(func(c *config.Config) {
		c.SessionTTL, c.HoldTTL = units.Duration(time.Hour), units.Duration(3*time.Hour)
	})
	s := h.hold("x", "", h.commits[0])
	active := func(string) (time.Time, error) { return time.Now(), nil }
	must.OK(t, h.Publisher.Expire(time.Now().Add(2*time.Hour), active))
	want(t, h.Client(h.Token).Session(s.ID), wire.Held, "", "")
	must.OK(t, h.Publisher.Expire(time.Now().Add(4*time.Hour), active))
	want(t, h.Client(h.Token).Session(s.ID), wire.Expired, "", "")
}
