// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/gpg"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// damage changes a byte of an object in the repository, and returns what is there then.
func damage(t *testing.T, s *ts.Server, n ostree.Name) (bad []byte) {
	t.Helper()
	bad = s.Held(n)
	bad[len(bad)-1] ^= 1
	s.Overwrite(n, bad)
	return bad
}

// published is a server that has published a commit, with nothing staged.
func published(t *testing.T, mode string) (s *ts.Server, repo string, commit ostree.Checksum) {
	t.Helper()
	repo, c := build(t, "one")
	s = ts.Start(t, mode)
	want(t, s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", New: c[0].String()}), wire.Published, "", "")
	must.OK(t, os.RemoveAll(filepath.Join(s.Store.StagedPath(), "objects")))
	must.OK(t, os.MkdirAll(filepath.Join(s.Store.StagedPath(), "objects"), 0o755))
	s.Stop()
	s.Run()
	return s, repo, c[0]
}

// A repair replaces a damaged object by what its name says, and by nothing else: not
// by what a client sends in its place, and not while it is not there.
func TestRepairTakesOnlyWhatIsRight(t *testing.T) { onBoth(t, testRepairTakesOnlyWhatIsRight) }

func testRepairTakesOnlyWhatIsRight(t *testing.T, mode string) {
	s, repo, commit := published(t, mode)
	client := s.Client(s.Token)
	all := ts.Objects(t, repo, commit)
	for _, kind := range []ostree.Type{ostree.File, ostree.DirTree, ostree.DirMeta, ostree.CommitObject} {
		n := all[slices.IndexFunc(all, func(n ostree.Name) bool { return n.Type == kind })]
		bad := damage(t, s, n)
		session := client.OpenRepair(wire.Ref{Ref: "x", Old: commit.String(), New: commit.String()})
		if lacking := client.Negotiate(session.ID, all...); len(lacking) > 0 {
			t.Errorf("%s: lacking before anything was read: %v", n, lacking)
		}
		want(t, client.Finalize(session.ID), wire.Open, wire.BadObjects, n.Checksum.String())
		want(t, client.Finalize(session.ID), wire.Open, wire.BadObjects, n.Checksum.String())
		if lacking := client.Negotiate(session.ID, all...); len(lacking) != 1 || lacking[0] != n {
			t.Fatalf("%s: lacking %v", n, lacking)
		}
		frame := wire.AppendFrameHeader([]byte(wire.PackMagic), n, int64(len(bad)))
		client.Upload(session.ID, "evil", append(frame, bad...))
		want(t, client.Finalize(session.ID), wire.Open, wire.BadObjects, n.Checksum.String())
		if !bytes.Equal(s.Held(n), bad) {
			t.Errorf("%s: it was replaced by what is bad", n)
		}
		client.Upload(session.ID, "good", ts.Pack(t, repo, n))
		// The server has it staged now, and is not led astray by its own copy.
		if lacking := client.Negotiate(session.ID, all...); len(lacking) > 0 {
			t.Errorf("%s: lacking still: %v", n, lacking)
		}
		want(t, client.Finalize(session.ID), wire.Published, "", "")
		s.Fsck()
	}
}

// What a repair has staged, and a power cut takes, is sent again: the copy that it is to
// replace does not stand for it.
func TestRepairLosesWhatIsStaged(t *testing.T) { onBoth(t, testRepairLosesWhatIsStaged) }

func testRepairLosesWhatIsStaged(t *testing.T, mode string) {
	s, repo, commit := published(t, mode)
	client := s.Client(s.Token)
	all := ts.Objects(t, repo, commit)
	file := all[slices.IndexFunc(all, func(n ostree.Name) bool { return n.Type == ostree.File })]
	bad := []ostree.Name{file, {Checksum: commit, Type: ostree.CommitObject}}
	for _, n := range bad {
		damage(t, s, n)
	}
	session := client.OpenRepair(wire.Ref{Ref: "x", Old: commit.String(), New: commit.String()})
	client.Negotiate(session.ID, all...)
	want(t, client.Finalize(session.ID), wire.Open, wire.BadObjects, "")
	client.Upload(session.ID, "good", ts.Pack(t, repo, bad...))
	if lacking := client.Negotiate(session.ID, all...); len(lacking) > 0 {
		t.Fatalf("lacking still: %v", lacking)
	}
	s.Stop()
	for _, n := range bad {
		must.OK(t, os.Remove(filepath.Join(s.Store.StagedPath(), "objects", n.Path())))
	}
	must.OK(t, os.Remove(filepath.Join(s.Store.StagedPath(), "clean"))) // as after a power cut
	s.Run()
	client = s.Client(s.Token)
	want(t, client.Finalize(session.ID), wire.Open, wire.MissingObjects, "")
	if lacking := client.Negotiate(session.ID, all...); len(lacking) != len(bad) {
		t.Errorf("lacking %v, want %v", lacking, bad)
	}
	client.Upload(session.ID, "again", ts.Pack(t, repo, bad...))
	want(t, client.Finalize(session.ID), wire.Published, "", "")
}

// An ordinary session does not read content, and leaves a file as it is.
func TestNoRepair(t *testing.T) {
	s, repo, commit := published(t, "archive")
	all := ts.Objects(t, repo, commit)
	n := all[slices.IndexFunc(all, func(n ostree.Name) bool { return n.Type == ostree.File })]
	damage(t, s, n)
	want(t, s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", Old: commit.String(), New: commit.String()}), wire.Published, "", "")
	s.Overwrite(n, ts.Object(t, repo, n))
}

// What a repair mends keeps neither the operator's check from looking at the session nor
// clients from its preview, and both see what will be there.
func TestCheckOfRepair(t *testing.T) {
	s, repo, commit := published(t, "archive")
	h := &checkedHost{Server: s, t: t, dir: t.TempDir(), build: repo}
	keys := gpg.New(t)
	keys.Sign(repo, commit.String(), 0)
	meta := ostree.Name{Checksum: commit, Type: ostree.CommitMeta}
	bad := filepath.Join(s.Repo, "objects", meta.Path())
	must.OK(t, os.WriteFile(bad, []byte("no metadata"), 0o644))
	h.check("sh", "-c", "cat objects/"+meta.Path()+" >"+h.dir+"/seen")
	client := s.Client(s.Token)
	move := wire.Ref{Ref: "x", Old: commit.String(), New: commit.String()}
	body, err := json.Marshal(wire.OpenRequest{Refs: []wire.Ref{move}, Repair: true, Hold: true})
	must.OK(t, err)
	var session wire.Session
	must.OK(t, json.Unmarshal(client.Want(201, "POST", "/api/v1/sessions", body).Body, &session))
	all := append(ts.Objects(t, repo, commit), meta)
	client.Upload(session.ID, "meta", ts.Pack(t, repo, client.Negotiate(session.ID, all...)...))
	held := client.Finalize(session.ID)
	want(t, held, wire.Held, "", "")
	must.OSTree(t, "pull", "--repo="+keys.Client(s.URL+"/"+held.Preview, 0, "gpg-verify=true"), "prod", "x")
	want(t, h.publish(s.AddToken(token.Options{Name: "release", Scopes: []string{token.Publish}}), session.ID), wire.Published, "", "")
	if b, err := os.ReadFile(bad); err != nil || !bytes.Equal(b, ts.Object(t, repo, meta)) || h.read("seen") != string(b) {
		t.Errorf("%q, %v; the check saw %q", b, err, h.read("seen"))
	}
}
