// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/test/gpg"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// build makes a build repository with commits on main, one for each salt, each
// the child of the one before.
func build(t *testing.T, salts ...string) (repo string, commits []ostree.Checksum) {
	t.Helper()
	repo = filepath.Join(t.TempDir(), "build")
	for _, salt := range salts {
		commits = append(commits, ts.Commit(t, repo, "main", salt, 12))
	}
	return repo, commits
}

// onBoth runs a test with a repository on the disk, and with one in a bucket.
func onBoth(t *testing.T, test func(t *testing.T, kind string)) {
	for _, kind := range []string{"archive", ts.InBucket} {
		t.Run(kind, func(t *testing.T) { test(t, kind) })
	}
}

func want(t *testing.T, got wire.Session, state, code, words string) {
	t.Helper()
	if got.State != state || got.Error != code || !strings.Contains(got.Detail, words) {
		t.Fatalf("session is %s, error %q, detail %q; want %s, %q, %q", got.State, got.Error, got.Detail, state, code, words)
	}
}

// A ref moves only forward, from where the session saw it, unless forced.
func TestRefMoves(t *testing.T) { onBoth(t, testRefMoves) }

func testRefMoves(t *testing.T, kind string) {
	repo, c := build(t, "one", "two", "three")
	other, o := build(t, "elsewhere")
	s := ts.Start(t, kind)
	client := s.Client(s.Token)
	push := func(client *ts.Client, repo, old string, new ostree.Checksum) wire.Session {
		return client.Push(repo, wire.Ref{Ref: "x", Old: old, New: new.String()})
	}
	want(t, push(client, repo, "", c[0]), wire.Published, "", "")
	want(t, push(client, repo, "", c[1]), wire.Failed, wire.RefMoved, "ref x is at "+c[0].String())
	want(t, push(client, repo, c[1].String(), c[2]), wire.Failed, wire.RefMoved, "this push expected "+c[1].String())
	want(t, push(client, repo, c[0].String(), c[1]), wire.Published, "", "")
	want(t, push(client, repo, c[1].String(), c[0]), wire.Failed, wire.NotFastForward, "does not descend")
	want(t, push(client, other, c[1].String(), o[0]), wire.Failed, wire.NotFastForward, "does not descend")
	// Nothing was imported for the refused.
	if n := strings.Count(must.Run(t, "find", filepath.Join(s.Local(), "objects"), "-name", "*.commit"), "\n") + 1; n != 2 {
		t.Errorf("%d commits in the repository, want 2", n)
	}
	boss := s.Client(s.Admin)
	want(t, boss.PushForced(other, wire.Ref{Ref: "x", Old: c[1].String(), New: o[0].String()}), wire.Published, "", "")
	if s.Ref("x") != o[0].String() {
		t.Errorf("x is at %s", s.Ref("x"))
	}
}

// The commits between old and new must be there; those before need not.
func TestShallowHistory(t *testing.T) { onBoth(t, testShallowHistory) }

func testShallowHistory(t *testing.T, kind string) {
	repo, c := build(t, "one", "two", "three", "four")
	s := ts.Start(t, kind)
	client := s.Client(s.Token)
	want(t, client.Push(repo, wire.Ref{Ref: "x", New: c[1].String()}), wire.Published, "", "")
	// What is not there may be what lies between: that is for the client to send.
	want(t, client.Push(repo, wire.Ref{Ref: "x", Old: c[1].String(), New: c[3].String()}), wire.Open, wire.MissingObjects, c[2].String())
	session := client.Open(wire.Ref{Ref: "x", Old: c[1].String(), New: c[3].String()})
	lacking := client.Negotiate(session.ID, ts.Objects(t, repo, c[2], c[3])...)
	client.Upload(session.ID, "all", ts.Pack(t, repo, lacking...))
	want(t, client.Finalize(session.ID), wire.Published, "", "")
	must.OSTree(t, "ls", "--repo="+s.Local(), "-R", c[2].String())
}

// Several refs flip together, and the summary that is there is kept up.
func TestSeveralRefs(t *testing.T) {
	repo, c := build(t, "one", "two")
	s := ts.Start(t, "archive")
	must.OSTree(t, "summary", "--repo="+s.Repo, "-u")
	client := s.Client(s.Token)
	session := client.Open(wire.Ref{Ref: "os/a", New: c[0].String()}, wire.Ref{Ref: "os/b", New: c[1].String()})
	client.Upload(session.ID, "all", ts.Pack(t, repo, client.Negotiate(session.ID, ts.Objects(t, repo, c...)...)...))
	want(t, client.Finalize(session.ID), wire.Published, "", "")
	summary := must.OSTree(t, "summary", "--repo="+s.Repo, "-v")
	for ref, commit := range map[string]string{"os/a": c[0].String(), "os/b": c[1].String()} {
		if s.Ref(ref) != commit || !strings.Contains(summary, ref) || !strings.Contains(summary, commit) {
			t.Errorf("%s is at %s, want %s; summary:\n%s", ref, s.Ref(ref), commit, summary)
		}
	}
	// One of two has moved: neither flips.
	session = client.Open(wire.Ref{Ref: "os/a", Old: c[0].String(), New: c[1].String()}, wire.Ref{Ref: "os/b", Old: c[0].String(), New: c[1].String()})
	want(t, client.Finalize(session.ID), wire.Failed, wire.RefMoved, "os/b")
	if s.Ref("os/a") != c[0].String() {
		t.Error("os/a moved alone")
	}
}

// A commit bound to other refs, or to another collection, is refused.
func TestBindings(t *testing.T) {
	repo, _ := build(t, "one")
	tree := t.TempDir()
	bound, err := ostree.ParseChecksum(must.OSTree(t, "commit", "--repo="+repo, "-b", "bound", "--bind-ref=also", tree))
	must.OK(t, err)
	s := ts.Start(t, "archive")
	client := s.Client(s.Token)
	want(t, client.Push(repo, wire.Ref{Ref: "x", New: bound.String()}), wire.Failed, wire.Policy, "bound to refs")
	want(t, client.Push(repo, wire.Ref{Ref: "also", New: bound.String()}), wire.Published, "", "")

	must.OSTree(t, "config", "--repo="+repo, "set", "core.collection-id", "org.example.Build")
	collected, err := ostree.ParseChecksum(must.OSTree(t, "commit", "--repo="+repo, "-b", "x", tree))
	must.OK(t, err)
	want(t, client.Push(repo, wire.Ref{Ref: "x", New: collected.String()}), wire.Published, "", "")
	must.OSTree(t, "config", "--repo="+s.Repo, "set", "core.collection-id", "org.example.Prod")
	s.Stop()
	s.Run()
	client = s.Client(s.Token)
	next, err := ostree.ParseChecksum(must.OSTree(t, "commit", "--repo="+repo, "-b", "x", tree))
	must.OK(t, err)
	want(t, client.Push(repo, wire.Ref{Ref: "x", Old: collected.String(), New: next.String()}), wire.Failed, wire.Policy, "org.example.Prod")
	must.OSTree(t, "config", "--repo="+s.Repo, "unset", "core.collection-id")
}

// That a dirtree is in the repository says nothing of its children.
func TestPrunedChild(t *testing.T) {
	repo, c := build(t, "one", "two")
	s := ts.Start(t, "archive")
	client := s.Client(s.Token)
	want(t, client.Push(repo, wire.Ref{Ref: "x", New: c[0].String()}), wire.Published, "", "")
	file := object(t, repo, c[0], ostree.File, c[1])
	s.Lose(file)
	must.OK(t, os.Remove(filepath.Join(s.Store.StagedPath(), "objects", file.Path())))
	session := client.Open(wire.Ref{Ref: "x", Old: c[0].String(), New: c[1].String()})
	sent := client.Negotiate(session.ID, ts.Objects(t, repo, c[1])...)
	var rest []ostree.Name
	for _, n := range sent {
		if n != file {
			rest = append(rest, n)
		}
	}
	if len(rest) == len(sent) {
		t.Fatalf("%s was not asked for", file)
	}
	client.Upload(session.ID, "rest", ts.Pack(t, repo, rest...))
	want(t, client.Finalize(session.ID), wire.Open, wire.MissingObjects, file.String())
	client.Upload(session.ID, "late", ts.Pack(t, repo, file))
	want(t, client.Finalize(session.ID), wire.Published, "", "")
}

// object finds an object of a type that two commits share.
func object(t *testing.T, repo string, a ostree.Checksum, kind ostree.Type, b ostree.Checksum) ostree.Name {
	t.Helper()
	shared := make(map[ostree.Name]bool)
	for _, n := range ts.Objects(t, repo, a) {
		shared[n] = n.Type == kind
	}
	for _, n := range ts.Objects(t, repo, b) {
		if shared[n] {
			return n
		}
	}
	t.Fatalf("no %s is shared", kind)
	return ostree.Name{}
}

// A metadata object that is damaged in the repository is noticed, not built upon.
func TestDamagedInRepository(t *testing.T) {
	repo, c := build(t, "one", "two")
	s := ts.Start(t, "archive")
	client := s.Client(s.Token)
	want(t, client.Push(repo, wire.Ref{Ref: "x", New: c[0].String()}), wire.Published, "", "")
	tree := object(t, repo, c[0], ostree.DirTree, c[1])
	good := ts.Object(t, repo, tree)
	bad := append([]byte{}, good...)
	bad[0] ^= 1
	must.OK(t, os.Remove(filepath.Join(s.Store.StagedPath(), "objects", tree.Path())))
	path := filepath.Join(s.Repo, "objects", tree.Path())
	must.OK(t, os.WriteFile(path, bad, 0o644))
	want(t, client.Push(repo, wire.Ref{Ref: "x", Old: c[0].String(), New: c[1].String()}), wire.Open, wire.BadObjects, tree.String())
	must.OK(t, os.WriteFile(path, good, 0o644))
}

// Marks of a deleted or incomplete commit go when it is published whole.
func TestTombstoneAndPartial(t *testing.T) {
	repo, c := build(t, "one", "two")
	s := ts.Start(t, "archive")
	hex := c[0].String()
	tombstone := filepath.Join(s.Repo, "objects", hex[:2], hex[2:]+".tombstone-commit")
	partial := filepath.Join(s.Repo, "state", hex+".commitpartial")
	must.OK(t, os.MkdirAll(filepath.Dir(tombstone), 0o755))
	must.OK(t, os.WriteFile(tombstone, nil, 0o644))
	must.OK(t, os.WriteFile(partial, nil, 0o644))
	want(t, s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", New: hex}), wire.Published, "", "")
	for _, path := range []string{tombstone, partial} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is still there", path)
		}
	}
}

// What is found publishing at a start is finished; what is found verifying is
// open again.
func TestRollForward(t *testing.T) { onBoth(t, testRollForward) }

func testRollForward(t *testing.T, kind string) {
	repo, c := build(t, "one")
	s := ts.Start(t, kind)
	client := s.Client(s.Token)
	for _, state := range []journal.State{journal.Verifying, journal.Publishing} {
		session := client.Open(wire.Ref{Ref: string(state), New: c[0].String()})
		if lacking := client.Negotiate(session.ID, ts.Objects(t, repo, c[0])...); len(lacking) > 0 {
			client.Upload(session.ID, "all", ts.Pack(t, repo, lacking...))
		}
		must.OK(t, s.Store.Wait(t.Context(), session.ID))
		for _, to := range []journal.State{journal.Verifying, state} {
			_, err := s.Journal.Move(session.ID, to, nil)
			must.OK(t, err)
		}
		s.Stop()
		s.Run()
		client = s.Client(s.Token)
		if state == journal.Verifying {
			want(t, client.Session(session.ID), wire.Open, "", "finalize again")
		}
		want(t, client.Finalize(session.ID), wire.Published, "", "")
		if s.Ref(string(state)) != c[0].String() {
			t.Errorf("%s is at %q", state, s.Ref(string(state)))
		}
	}
}

// A session that was publishing when somebody else moved its ref fails: the
// ref is neither old nor new.
func TestRollForwardAfterMove(t *testing.T) { onBoth(t, testRollForwardAfterMove) }

func testRollForwardAfterMove(t *testing.T, kind string) {
	repo, c := build(t, "one", "two")
	s := ts.Start(t, kind)
	client := s.Client(s.Token)
	want(t, client.Push(repo, wire.Ref{Ref: "y", New: c[1].String()}), wire.Published, "", "")
	session := client.Open(wire.Ref{Ref: "x", New: c[0].String()})
	client.Upload(session.ID, "all", ts.Pack(t, repo, client.Negotiate(session.ID, ts.Objects(t, repo, c[0])...)...))
	must.OK(t, s.Store.Wait(t.Context(), session.ID))
	for _, to := range []journal.State{journal.Verifying, journal.Publishing} {
		_, err := s.Journal.Move(session.ID, to, nil)
		must.OK(t, err)
	}
	s.Stop()
	s.SetRef("x", c[1].String())
	s.Run()
	want(t, s.Client(s.Token).Finalize(session.ID), wire.Failed, wire.RefMoved, "x")
}

// A lock that another process holds is waited for, not an error.
func TestLockedRepository(t *testing.T) {
	repo, c := build(t, "one")
	s := ts.Start(t, "archive")
	must.OSTree(t, "config", "--repo="+s.Repo, "set", "core.lock-timeout-secs", "0")
	holder, err := libostree.Open(s.Repo)
	must.OK(t, err)
	defer holder.Close()
	must.OK(t, holder.Lock(t.Context(), libostree.Exclusive))
	client := s.Client(s.Token)
	session := client.Open(wire.Ref{Ref: "x", New: c[0].String()})
	client.Upload(session.ID, "all", ts.Pack(t, repo, client.Negotiate(session.ID, ts.Objects(t, repo, c[0])...)...))
	client.Want(202, "POST", "/api/v1/sessions/"+session.ID+"/finalize", nil)
	client.Want(200, "GET", "/api/v1/sessions/"+session.ID+"?wait=100ms", nil)
	want(t, client.Session(session.ID), wire.Verifying, "", "")
	must.OK(t, holder.Unlock(libostree.Exclusive))
	want(t, client.Finalize(session.ID), wire.Published, "", "")
}

// Two sessions race for one ref: one wins, the other is told.
func TestRace(t *testing.T) { onBoth(t, testRace) }

func testRace(t *testing.T, kind string) {
	s := ts.Start(t, kind)
	client := s.Client(s.Token)
	one, c1 := build(t, "one")
	two, c2 := build(t, "two")
	repos, commits := []string{one, two}, []string{c1[0].String(), c2[0].String()}
	for range 5 {
		var sessions [2]wire.Session
		for i := range sessions {
			sessions[i] = client.Open(wire.Ref{Ref: "x", New: commits[i]})
			all := ts.Objects(t, repos[i], parse(t, commits[i]))
			if lacking := client.Negotiate(sessions[i].ID, all...); len(lacking) > 0 {
				client.Upload(sessions[i].ID, "all", ts.Pack(t, repos[i], lacking...))
			}
		}
		var wg sync.WaitGroup
		for i := range sessions {
			wg.Go(func() { sessions[i] = client.Finalize(sessions[i].ID) })
		}
		wg.Wait()
		won, lost := sessions[0], sessions[1]
		if won.State != wire.Published {
			won, lost = lost, won
		}
		want(t, won, wire.Published, "", "")
		want(t, lost, wire.Failed, wire.RefMoved, "")
		s.SetRef("x", "")
	}
}

func parse(t *testing.T, s string) ostree.Checksum {
	t.Helper()
	c, err := ostree.ParseChecksum(s)
	must.OK(t, err)
	return c
}

// Signatures travel with their commit, and a second push adds to what the
// first brought; none is lost though the build repository forgets its own.
func TestSignatures(t *testing.T) { onBoth(t, testSignatures) }

func testSignatures(t *testing.T, kind string) {
	repo, c := build(t, "one")
	s := ts.Start(t, kind)
	client := s.Client(s.Token)
	meta := ostree.Name{Checksum: c[0], Type: ostree.CommitMeta}
	commit := c[0].String()
	keys := gpg.New(t)
	t.Setenv("OSTREE_DUMMY_SIGN_ENABLED", "1")
	steps := []struct {
		sign, verify func(repo string)
	}{
		{func(repo string) { keys.Sign(repo, commit, 0) }, func(repo string) { keys.Verify(repo, "x", 0) }},
		{
			func(repo string) { must.OSTree(t, "sign", "--repo="+repo, "--sign-type=dummy", commit, "key") },
			func(repo string) {
				must.OSTree(t, "sign", "--repo="+repo, "--sign-type=dummy", "--verify", commit, "key")
			},
		},
		{func(repo string) { keys.Sign(repo, commit, 1) }, func(repo string) {
			keys.Verify(repo, "x", 0)
			keys.Verify(repo, "x", 1)
		}},
	}
	old := ""
	for i, step := range steps {
		step.sign(repo)
		want(t, client.Push(repo, wire.Ref{Ref: "x", Old: old, New: commit}), wire.Published, "", "")
		old = commit
		must.OK(t, os.Remove(filepath.Join(repo, "objects", meta.Path())))
		for _, done := range steps[:i+1] {
			done.verify(s.Local())
		}
	}
	if got := client.Want(200, "GET", "/api/v1/commitmeta/"+commit, nil).Body; len(got) == 0 {
		t.Error("the server shows no detached metadata")
	}
}
