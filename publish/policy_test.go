// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/gpg"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A signed host is a server whose refs below signed/ have to be signed by two keys.
type signedHost struct {
	*ts.Server
	t       *testing.T
	keys    *gpg.Keys
	keyring string
	build   string
	commits []ostree.Checksum
}

func newSignedHost(t *testing.T, salts ...string) *signedHost {
	h := &signedHost{Server: ts.Start(t, "archive"), t: t, keys: gpg.New(t), keyring: filepath.Join(t.TempDir(), "keys")}
	h.build, h.commits = build(t, salts...)
	h.keys.Export(h.keyring, true)
	h.require(config.Policy{Name: "policy 1", Refs: []string{"signed/**"}, GPGKeyring: h.keyring, Require: 2})
	return h
}

func (h *signedHost) require(policies ...config.Policy) {
	h.Change(func(c *config.Config) { c.Policy = policies })
}

func (h *signedHost) push(ref string, old int, new int) wire.Session {
	h.t.Helper()
	move := wire.Ref{Ref: ref, New: h.commits[new].String()}
	if old >= 0 {
		move.Old = h.commits[old].String()
	}
	client := h.Client(h.Token)
	s := client.Open(move)
	if lacking := client.Negotiate(s.ID, ts.Objects(h.t, h.build, h.commits[max(old, 0):new+1]...)...); len(lacking) > 0 {
		client.Upload(s.ID, "all", ts.Pack(h.t, h.build, lacking...))
	}
	return client.Finalize(s.ID)
}

// A ref moves to a commit that enough keys have signed, and to no other: signatures of the
// session and of the repository count together.
func TestPolicy(t *testing.T) {
	h := newSignedHost(t, "one", "two")
	tip := h.commits[0].String()
	want(t, h.push("signed/x", -1, 0), wire.Failed, wire.Policy,
		"ref signed/x, commit "+tip+": it has 0 good signatures of the 2 that policy 1 requires, each by another key; let the others sign it, by `ostree gpg-sign`")
	h.keys.Sign(h.build, tip, 0)
	want(t, h.push("signed/x", -1, 0), wire.Failed, wire.Policy, "it has 1 good signature of the 2")
	if found, err := filepath.Glob(filepath.Join(h.Repo, "objects/*/*")); err != nil || len(found) > 0 {
		t.Errorf("refused, and in the repository are %q, %v", found, err)
	}
	want(t, h.push("free", -1, 0), wire.Published, "", "") // and the repository has a signature now
	must.OK(t, os.Remove(filepath.Join(h.build, "objects", ostree.Name{Checksum: h.commits[0], Type: ostree.CommitMeta}.Path())))
	want(t, h.push("signed/x", -1, 0), wire.Failed, wire.Policy, "it has 1 good signature of the 2")
	h.keys.Sign(h.build, tip, 1)
	want(t, h.push("signed/x", -1, 0), wire.Published, "", "")
	h.keys.Verify(h.Repo, "signed/x", 0)
	h.keys.Verify(h.Repo, "signed/x", 1)
	// One that is there may be moved to from elsewhere, which brings nothing.
	want(t, h.push("signed/y", -1, 0), wire.Published, "", "")
	want(t, h.push("signed/x", 0, 1), wire.Failed, wire.Policy, h.commits[1].String()+": it has 0 good")
	want(t, h.push("free", 0, 1), wire.Published, "", "")
	want(t, h.push("signed/x", 0, 1), wire.Failed, wire.Policy, "it has 0 good")
}

// All policies that concern a ref hold, and with history so does each commit below the
// new one that the session brings.
func TestSeveralPolicies(t *testing.T) {
	h := newSignedHost(t, "one", "two", "three")
	first, other := config.Policy{Name: "policy 1", GPGKeyring: h.keyring, Require: 1}, gpg.New(t)
	second := config.Policy{Name: "policy 2", Refs: []string{"signed/*"}, GPGKeyring: h.keyring + "2", Require: 1}
	other.Export(second.GPGKeyring, false)
	h.require(first, second)
	h.keys.Sign(h.build, h.commits[0].String(), 0)
	want(t, h.push("signed/x", -1, 0), wire.Failed, wire.Policy, "that policy 2 requires: GPG key ID "+h.keys.Fingerprint(0)[24:]+" is not among the keys that count;")
	other.Sign(h.build, h.commits[0].String(), 1)
	want(t, h.push("signed/x", -1, 0), wire.Published, "", "")

	first.History = true
	h.require(first)
	h.keys.Sign(h.build, h.commits[2].String(), 0)
	want(t, h.push("signed/x", 0, 2), wire.Failed, wire.Policy, "commit "+h.commits[1].String()+": it has 0 good")
	h.require(second)
	want(t, h.push("signed/x", 0, 2), wire.Failed, wire.Policy, "commit "+h.commits[2].String())
	h.keys.Sign(h.build, h.commits[1].String(), 0)
	h.require(first)
	want(t, h.push("signed/x", 0, 2), wire.Published, "", "")
}

// An alias moves with what it stands for: its policies hold for that, too.
func TestPolicyOfAlias(t *testing.T) {
	h := newSignedHost(t, "one", "two")
	want(t, h.push("free/x", -1, 0), wire.Published, "", "")
	must.OSTree(t, "refs", "--repo="+h.Repo, "--alias", "free/x", "--create=other")
	must.OSTree(t, "refs", "--repo="+h.Repo, "--alias", "other", "--create=signed/x")
	want(t, h.push("free/x", 0, 1), wire.Failed, wire.Policy, "ref free/x, of which signed/x is an alias, commit "+h.commits[1].String()+": it has 0 good")
	want(t, h.push("free/y", -1, 1), wire.Published, "", "")
	for key := range 2 {
		h.keys.Sign(h.build, h.commits[1].String(), key)
	}
	want(t, h.push("free/x", 0, 1), wire.Published, "", "")
	h.keys.Verify(h.Repo, "signed/x", 0)
}

// What cannot be told is not published, and can be once the keyring is back.
func TestLostKeyring(t *testing.T) {
	h := newSignedHost(t, "one")
	for key := range 2 {
		h.keys.Sign(h.build, h.commits[0].String(), key)
	}
	must.OK(t, os.Rename(h.keyring, h.keyring+".away"))
	s := h.push("signed/x", -1, 0)
	want(t, s, wire.Open, wire.Internal, "policy 1: gpg-keyring: "+h.keyring+" is not there")
	must.OK(t, os.Rename(h.keyring+".away", h.keyring))
	want(t, h.Client(h.Token).Finalize(s.ID), wire.Published, "", "")
}

// That a commit lacks signatures is told when a session is opened, if the request brings the
// commit and its detached metadata, or the session brings nothing. What the request does not
// bring may still come.
func TestPolicyWhenOpened(t *testing.T) {
	h := newSignedHost(t, "one", "two")
	client := h.Client(h.Token)
	given := func(commit int) wire.SignedCommit {
		t.Helper()
		c := wire.SignedCommit{Commit: h.object(commit, ostree.CommitObject)}
		if _, err := os.Stat(filepath.Join(h.build, "objects", ostree.Name{Checksum: h.commits[commit], Type: ostree.CommitMeta}.Path())); err == nil {
			c.CommitMeta = h.object(commit, ostree.CommitMeta)
		}
		return c
	}
	move := func(ref string, commit int) []wire.Ref {
		return []wire.Ref{{Ref: ref, New: h.commits[commit].String()}}
	}
	open := func(status int, words string, req wire.OpenRequest) {
		t.Helper()
		a := client.TryOpen(req)
		if a.Status != status {
			t.Fatalf("status %d, want %d: %s", a.Status, status, a.Body)
		}
		if words == "" {
			return
		}
		if p := a.Problem(t); !strings.Contains(p.Detail, words) {
			t.Errorf("%q, want %q", p.Detail, words)
		}
	}
	open(422, "ref signed/x, commit "+h.commits[0].String()+": it has 0 good signatures of the 2", wire.OpenRequest{Refs: move("signed/x", 0), Commits: []wire.SignedCommit{given(0)}})
	open(422, "it has 0 good signatures", wire.OpenRequest{Refs: move("signed/x", 0), Commits: []wire.SignedCommit{given(0)}, DryRun: true})
	open(204, "", wire.OpenRequest{Refs: move("signed/x", 0), DryRun: true})
	open(204, "", wire.OpenRequest{Refs: move("signed/x", 0), Commits: []wire.SignedCommit{given(1)}, DryRun: true}) // of no interest
	open(204, "", wire.OpenRequest{Refs: move("free", 0), Commits: []wire.SignedCommit{given(0)}, DryRun: true})
	h.keys.Sign(h.build, h.commits[0].String(), 0)
	open(422, "it has 1 good signature of the 2", wire.OpenRequest{Refs: move("signed/x", 0), Commits: []wire.SignedCommit{given(0)}})
	want(t, h.push("free", -1, 0), wire.Published, "", "")
	client = h.Client(h.Admin)
	open(422, "it has 1 good signature of the 2", wire.OpenRequest{Refs: move("signed/x", 0), Promote: true})
	must.OK(t, os.Remove(filepath.Join(h.build, "objects", ostree.Name{Checksum: h.commits[0], Type: ostree.CommitMeta}.Path())))
	h.keys.Sign(h.build, h.commits[0].String(), 1) // the repository has the other one
	open(201, "", wire.OpenRequest{Refs: move("signed/x", 0), Commits: []wire.SignedCommit{given(0)}})

	open(400, "is no commit", wire.OpenRequest{Refs: move("signed/y", 0), Commits: []wire.SignedCommit{{Commit: []byte("x")}}})
	bad := given(0)
	bad.CommitMeta = []byte("x")
	open(400, "the detached metadata of "+h.commits[0].String(), wire.OpenRequest{Refs: move("signed/y", 0), Commits: []wire.SignedCommit{bad}})
	open(400, "there are 101, and may be 100", wire.OpenRequest{Refs: move("signed/y", 0), Commits: slices.Repeat([]wire.SignedCommit{given(1)}, 101)})
}

// object reads one of the build repository's.
func (h *signedHost) object(commit int, typ ostree.Type) []byte {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.build, "objects", ostree.Name{Checksum: h.commits[commit], Type: typ}.Path()))
	must.OK(h.t, err)
	return b
}
