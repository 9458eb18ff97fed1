// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A session that is aborted while it waits for another one does not take the
// publisher along.
func TestAbortedWhileQueued(t *testing.T) {
	repo, c := build(t, "one")
	s := ts.Start(t, "archive")
	holder, err := libostree.Open(s.Repo)
	must.OK(t, err)
	defer holder.Close()
	must.OK(t, holder.Lock(t.Context(), libostree.Exclusive))
	client := s.Client(s.Token)
	good := client.Open(wire.Ref{Ref: "good", New: c[0].String()})
	client.Upload(good.ID, "all", ts.Pack(t, repo, client.Negotiate(good.ID, ts.Objects(t, repo, c[0])...)...))
	lost := client.Open(wire.Ref{Ref: "lost", New: strings.Repeat("f", 64)})
	client.Want(202, "POST", "/api/v1/sessions/"+good.ID+"/finalize", nil)
	must.Wait(t, "the publisher is at the first session", func() bool { return client.Session(good.ID).Detail != "" })
	client.Want(202, "POST", "/api/v1/sessions/"+lost.ID+"/finalize", nil)
	client.Want(200, "DELETE", "/api/v1/sessions/"+lost.ID, nil)
	must.OK(t, holder.Unlock(libostree.Exclusive))
	want(t, client.Finalize(good.ID), wire.Published, "", "")
	want(t, client.Session(lost.ID), wire.Aborted, "", "")
}

// A session that is aborted while it is looked at, and then proves to be one that could
// not be published, does not take the publisher along, nor the server.
func TestAbortedWhileLookedAt(t *testing.T) {
	repo, c := build(t, "one")
	s := ts.Start(t, "archive")
	client := s.Client(s.Token)
	lost := client.Open(wire.Ref{Ref: "x", New: c[0].String()})
	client.Upload(lost.ID, "all", ts.Pack(t, repo, client.Negotiate(lost.ID, ts.Objects(t, repo, c[0])...)...))
	s.Publisher.AskToken(func(name string) *token.Token {
		s.Publisher.AskToken(func(name string) *token.Token { return tokenOf(s, name) })
		if _, err := s.Publisher.Abort(lost.ID); err != nil {
			t.Error(err)
		}
		return nil // which refuses it
	})
	want(t, client.Finalize(lost.ID), wire.Aborted, "", "")
	want(t, client.Push(repo, wire.Ref{Ref: "x", New: c[0].String()}), wire.Published, "", "")
}

// An object that is empty or damaged in the repository is asked for again and
// replaced, whatever its type.
func TestDamagedIsReplaced(t *testing.T) {
	repo, c := build(t, "one", "two", "three", "four", "five")
	s := ts.Start(t, "archive")
	client := s.Client(s.Token)
	want(t, client.Push(repo, wire.Ref{Ref: "x", New: c[0].String()}), wire.Published, "", "")
	for i, kind := range []ostree.Type{ostree.DirTree, ostree.DirMeta, ostree.File, ostree.DirMeta} {
		old, new := c[i], c[i+1]
		n := object(t, repo, old, kind, new)
		must.OK(t, os.Remove(filepath.Join(s.Store.StagedPath(), "objects", n.Path())))
		path := filepath.Join(s.Repo, "objects", n.Path())
		must.OK(t, os.Remove(path)) // staging may share its inode
		var damage []byte
		if i == 3 {
			damage = []byte("neither empty nor good")
		}
		must.OK(t, os.WriteFile(path, damage, 0o644))
		session := client.Open(wire.Ref{Ref: "x", Old: old.String(), New: new.String()})
		all := ts.Objects(t, repo, new)
		client.Upload(session.ID, "first", ts.Pack(t, repo, client.Negotiate(session.ID, all...)...))
		got := client.Finalize(session.ID)
		if got.State == wire.Open { // found by its bytes only now
			want(t, got, wire.Open, wire.BadObjects, n.String())
			client.Upload(session.ID, "second", ts.Pack(t, repo, client.Negotiate(session.ID, all...)...))
			got = client.Finalize(session.ID)
		}
		want(t, got, wire.Published, "", "")
		s.Fsck()
	}
}

// A summary that cannot be written, here for a ref to a commit that is not
// there, does not keep a session from being published, and is written once it
// can be.
func TestSummaryCannotBeWritten(t *testing.T) {
	repo, c := build(t, "one")
	s := ts.Start(t, "archive")
	must.OSTree(t, "summary", "--repo="+s.Repo, "-u")
	ghost := filepath.Join(s.Repo, "refs/heads/ghost")
	must.OK(t, os.WriteFile(ghost, []byte(strings.Repeat("0", 64)+"\n"), 0o644))
	want(t, s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", New: c[0].String()}), wire.Published, "", "summary could not be written")
	must.OK(t, os.Remove(ghost))
	must.Wait(t, "the summary names the commit", func() bool {
		return strings.Contains(must.OSTree(t, "summary", "--repo="+s.Repo, "-v"), c[0].String())
	})
}

// Detached metadata of a commit that no ref of the session leads to is left
// out, and the session says so.
func TestStrayCommitMeta(t *testing.T) { onBoth(t, testStrayCommitMeta) }

func testStrayCommitMeta(t *testing.T, kind string) {
	repo, c := build(t, "one")
	s := ts.Start(t, kind)
	t.Setenv("OSTREE_DUMMY_SIGN_ENABLED", "1")
	must.OSTree(t, "sign", "--repo="+repo, "--sign-type=dummy", c[0].String(), "key")
	meta := ts.Object(t, repo, ostree.Name{Checksum: c[0], Type: ostree.CommitMeta})
	client := s.Client(s.Token)
	session := client.Open(wire.Ref{Ref: "x", New: c[0].String()})
	client.Upload(session.ID, "all", ts.Pack(t, repo, client.Negotiate(session.ID, ts.Objects(t, repo, c[0])...)...))
	stray := ostree.Name{Checksum: ostree.Checksum{1}, Type: ostree.CommitMeta}
	client.Negotiate(session.ID, stray)
	client.Upload(session.ID, stray.String(), meta)
	want(t, client.Finalize(session.ID), wire.Published, "", stray.Checksum.String())
	if _, err := os.Stat(filepath.Join(s.Local(), "objects", stray.Path())); !os.IsNotExist(err) {
		t.Error("it is in the repository")
	}
}
