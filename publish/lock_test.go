// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"

	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/wire"
	ts "github.com/lirios/ostree-upload/test/server"
)

// holder holds the lock of a repository.
func holder(t *testing.T, repo string, kind libostree.LockKind) (release func()) {
	t.Helper()
	r, err := libostree.Open(repo)
	must.OK(t, err)
	must.OK(t, r.Lock(t.Context(), kind))
	return func() {
		must.OK(t, r.Unlock(kind))
		r.Close()
	}
}

// A session that waits for the repository's lock says so, and since when; an abort
// ends the wait at once, and the next session is published when the lock is free.
func TestWaitsForLock(t *testing.T) {
	repo, c := build(t, "one", "two")
	s := ts.Start(t, "archive")
	client := s.Client(s.Token)
	must.OSTree(t, "prune", "--repo="+s.Repo, "--refs-only") // makes the lock file
	release := holder(t, s.Repo, libostree.Exclusive)
	first := client.Open(wire.Ref{Ref: "first", New: c[0].String()})
	second := client.Open(wire.Ref{Ref: "second", New: c[1].String()})
	for i, session := range []wire.Session{first, second} {
		client.Upload(session.ID, "all", ts.Pack(t, repo, client.Negotiate(session.ID, ts.Objects(t, repo, c[i])...)...))
		client.Want(202, "POST", "/api/v1/sessions/"+session.ID+"/finalize", nil)
	}
	waits := func(session wire.Session) {
		t.Helper()
		must.Wait(t, "it says what it waits for", func() bool { return client.Session(session.ID).Detail != "" })
		want(t, client.Session(session.ID), wire.Verifying, "", "waits for the repository's lock since ")
	}
	waits(first)
	client.Want(200, "DELETE", "/api/v1/sessions/"+first.ID, nil)
	waits(second)
	release()
	want(t, client.Finalize(second.ID), wire.Published, "", "")
	if detail := client.Session(second.ID).Detail; detail != "" {
		t.Errorf("it still says %q", detail)
	}
	want(t, client.Session(first.ID), wire.Aborted, "", "")
}

// Others who hold the shared lock in turn, so that it is never free, do not keep
// a publish from moving its refs.
func TestSharedLockNeverFree(t *testing.T) {
	repo, c := build(t, "one")
	s := ts.Start(t, "archive")
	must.OSTree(t, "prune", "--repo="+s.Repo, "--refs-only")
	defer holder(t, s.Repo, libostree.Shared)()
	want(t, s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", New: c[0].String()}), wire.Published, "", "")
	if left, err := filepath.Glob(filepath.Join(s.Repo, "tmp/ostree-upload-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A ref may take the place of the empty folders that deleted refs leave.
func TestRefInPlaceOfFolder(t *testing.T) {
	repo, c := build(t, "one")
	s := ts.Start(t, "archive")
	client := s.Client(s.Token)
	want(t, client.Push(repo, wire.Ref{Ref: "os/a/b/c", New: c[0].String()}), wire.Published, "", "")
	must.OSTree(t, "refs", "--repo="+s.Repo, "--delete", "os/a/b/c")
	want(t, client.Push(repo, wire.Ref{Ref: "os/a", New: c[0].String()}), wire.Published, "", "")
	if refs := must.OSTree(t, "refs", "--repo="+s.Repo); strings.TrimSpace(refs) != "os/a" {
		t.Errorf("refs: %s", refs)
	}
}
