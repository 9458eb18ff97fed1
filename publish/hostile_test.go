// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/test/objects"
	ts "github.com/lirios/ostree-upload/test/server"
)

// sending is a session whose objects were sent, to be finalized.
func sending(t *testing.T, c *ts.Client, all []objects.Object, refs ...wire.Ref) wire.Session {
	t.Helper()
	session := c.Open(refs...)
	bytes := make(map[ostree.Name][]byte)
	var names []ostree.Name
	for _, o := range all {
		n, err := ostree.ParseName(o.Name())
		must.OK(t, err)
		bytes[n] = o.Bytes
		names = append(names, n)
	}
	pack := []byte(wire.PackMagic)
	count := 0
	flush := func() {
		if len(pack) > len(wire.PackMagic) {
			count++
			c.Upload(session.ID, fmt.Sprint("p", count), pack)
			pack = []byte(wire.PackMagic)
		}
	}
	for len(names) > 0 {
		some := names[:min(len(names), wire.MaxNames)]
		names = names[len(some):]
		for _, n := range c.Negotiate(session.ID, some...) {
			pack = append(wire.AppendFrameHeader(pack, n, int64(len(bytes[n]))), bytes[n]...)
			if len(pack) > 8<<20 {
				flush()
			}
		}
	}
	flush()
	return session
}

func object32(sum [32]byte) string { return ostree.Checksum(sum).String() }

// nested makes trees within each other, the innermost empty, each in the next one
// under a name.
func nested(levels int, name string) (root objects.Object, all []objects.Object) {
	meta := objects.SoundDirMeta()
	root = objects.Metadata("dirtree", objects.Tree(nil, nil))
	all = []objects.Object{root, meta}
	for range levels {
		root = objects.Metadata("dirtree", objects.Tree(nil, []objects.Value{objects.Entry(name, root.Sum[:], meta.Sum[:])}))
		all = append(all, root)
	}
	return root, all
}

// A tree that no file system can hold is refused, by its directory's object and
// path, before anything changes: libostree crashes on very deep ones.
func TestUnfitTrees(t *testing.T) { onBoth(t, testUnfitTrees) }

func testUnfitTrees(t *testing.T, kind string) {
	long := strings.Repeat("n", 250)
	for _, tc := range []struct {
		what   string
		levels int
		name   string
		state  string
		words  string
	}{
		{"as deep as a path can be", 2047, "d", wire.Published, ""},
		{"deeper", 2049, "d", wire.Failed, "deeper than a path can be"},
		{"much deeper", 20_000, "d", wire.Failed, "deeper than a path can be"},
		{"long names, together too long", 17, long, wire.Failed, "a path in it has"},
		{"a name as long as can be", 1, strings.Repeat("n", 255), wire.Published, ""},
		{"a name too long", 2, strings.Repeat("n", 256), wire.Failed, "has 256 bytes"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			s := ts.Start(t, kind)
			root, all := nested(tc.levels, tc.name)
			commit, others := objects.CommitOf(root, tc.what)
			client := s.Client(s.Token)
			session := sending(t, client, append(all, others...), wire.Ref{Ref: "x", New: object32(commit)})
			code := ""
			if tc.state == wire.Failed {
				code = wire.Policy
			}
			got := client.Finalize(session.ID)
			want(t, got, tc.state, code, tc.words)
			if code != "" && (!strings.Contains(got.Detail, ".dirtree: ") || !strings.Contains(got.Detail, "directory /")) {
				t.Errorf("it names no object and path: %s", got.Detail)
			}
			local := s.Local()
			if n, err := filepath.Glob(filepath.Join(local, "objects/*/*")); err != nil || code != "" && len(n) > 0 {
				t.Errorf("%d objects in the repository, %v", len(n), err)
			}
			must.OSTree(t, "prune", "--refs-only", "--repo="+local)
		})
	}
}

// An xattr that no file system takes refuses the session for good, by the object and
// its path, be it a file's or a directory's.
func TestUnfitXattrs(t *testing.T) { onBoth(t, testUnfitXattrs) }

func testUnfitXattrs(t *testing.T, kind string) {
	large := strings.Repeat("v", 64<<10+1)
	file := objects.SoundFile("with xattr")
	file.Xattrs = objects.Xattrs("user.large\x00", large)
	for what, o := range map[string]objects.Object{
		"/file": file.Object(),
		"/dir":  objects.Metadata("dirmeta", objects.DirMeta(0o40755, "user.large\x00", large)),
	} {
		s := ts.Start(t, kind)
		commit, others := objects.CommitOf(o, what)
		client := s.Client(s.Token)
		session := sending(t, client, append(others, o), wire.Ref{Ref: "x", New: object32(commit)})
		want(t, client.Finalize(session.ID), wire.Failed, wire.Policy, what+", object "+o.Name()+": its xattr")
	}
}

// signatures is detached metadata with one signature of so many random bytes.
func signatures(t *testing.T, commit string, size int) objects.Object {
	t.Helper()
	b := make([]byte, size)
	_, err := rand.Read(b)
	must.OK(t, err)
	sum, err := ostree.ParseChecksum(commit)
	must.OK(t, err)
	meta := objects.Dict(objects.Item("ostree.gpgsigs", "aay", objects.Array(objects.Bytes(b...))))
	return objects.Object{Type: "commitmeta", Sum: sum, Bytes: meta.Bytes}
}

func meta(t *testing.T, s *ts.Server, commit string) int {
	t.Helper()
	st, err := os.Stat(filepath.Join(s.Repo, "objects", commit[:2], commit[2:]+".commitmeta"))
	if os.IsNotExist(err) {
		return 0
	}
	must.OK(t, err)
	return int(st.Size())
}

// Only who may push every ref that names a published commit adds to its detached
// metadata, so that its owners always have room to sign it.
func TestMetadataOfOthers(t *testing.T) { onBoth(t, testMetadataOfOthers) }

func testMetadataOfOthers(t *testing.T, kind string) {
	repo, c := build(t, "one", "two")
	s := ts.Start(t, kind)
	mine, theirs := s.Client(s.AddToken(token.Options{Name: "a", Refs: []string{"os/a/**"}})), s.Client(s.AddToken(token.Options{Name: "b", Refs: []string{"os/b/**"}}))
	head, before := c[1].String(), c[0].String()
	want(t, theirs.Push(repo, wire.Ref{Ref: "os/b/x", New: before}), wire.Published, "", "")
	want(t, theirs.Push(repo, wire.Ref{Ref: "os/b/x", Old: before, New: head}), wire.Published, "", "")
	// One that the other's ref names, and one of its history.
	for i, commit := range []string{head, before} {
		ref := wire.Ref{Ref: fmt.Sprint("os/a/", i), New: commit}
		session := sending(t, mine, []objects.Object{signatures(t, commit, 1000<<10)}, ref)
		want(t, mine.Finalize(session.ID), wire.Published, "", "was left out")
		if n := meta(t, s, commit); n != 0 {
			t.Errorf("commit %s got %d bytes of detached metadata from another token", commit, n)
		}
	}
	// Both refs name the head now: still only its owners sign it, and whoever may
	// push both.
	session := sending(t, mine, []objects.Object{signatures(t, head, 1000<<10)}, wire.Ref{Ref: "os/a/0", Old: head, New: head})
	want(t, mine.Finalize(session.ID), wire.Published, "", "was left out")
	for i, owner := range []*ts.Client{theirs, s.Client(s.Token)} {
		before := meta(t, s, head)
		session := sending(t, owner, []objects.Object{signatures(t, head, 64<<10)}, wire.Ref{Ref: "os/b/x", Old: head, New: head})
		if got := owner.Finalize(session.ID); got.State != wire.Published || got.Detail != "" {
			t.Errorf("owner %d: %+v", i, got)
		}
		if meta(t, s, head) < before+64<<10 {
			t.Errorf("the signature of owner %d is not there", i)
		}
	}
}

// Detached metadata that would grow too large refuses the session before anything
// changed, not in the middle, and for good.
func TestMetadataTooLarge(t *testing.T) { onBoth(t, testMetadataTooLarge) }

func testMetadataTooLarge(t *testing.T, kind string) {
	repo, c := build(t, "one", "two", "three")
	s := ts.Start(t, kind)
	client := s.Client(s.Token)
	first, second, third := c[0].String(), c[1].String(), c[2].String()
	want(t, client.Push(repo, wire.Ref{Ref: "x", New: first}), wire.Published, "", "")
	session := sending(t, client, []objects.Object{signatures(t, first, 600<<10)}, wire.Ref{Ref: "x", Old: first, New: first})
	want(t, client.Finalize(session.ID), wire.Published, "", "")
	want(t, client.Push(repo, wire.Ref{Ref: "y", New: second}), wire.Published, "", "")
	before := meta(t, s, first)

	session = client.Open(wire.Ref{Ref: "x", Old: first, New: first}, wire.Ref{Ref: "y", Old: second, New: third})
	sum, err := ostree.ParseChecksum(third)
	must.OK(t, err)
	lacking := client.Negotiate(session.ID, ts.Objects(t, repo, sum)...)
	client.Upload(session.ID, "all", ts.Pack(t, repo, lacking...))
	more := signatures(t, first, 600<<10)
	n, err := ostree.ParseName(more.Name())
	must.OK(t, err)
	client.Negotiate(session.ID, n)
	client.Upload(session.ID, n.String(), more.Bytes)
	want(t, client.Finalize(session.ID), wire.Failed, wire.Policy, first)
	if meta(t, s, first) != before || s.Ref("y") != second {
		t.Error("something changed")
	}
	for _, n := range lacking {
		if _, err := os.Stat(filepath.Join(s.Local(), "objects", n.Path())); err == nil {
			t.Errorf("object %s is in the repository", n)
		}
	}
}

// A session that waits to be published is not, once its token is taken away or
// may push less; it goes on when the token is there again.
func TestTokenTakenAway(t *testing.T) {
	repo, c := build(t, "one")
	s := ts.Start(t, "archive")
	secret := s.AddToken(token.Options{Name: "temp"})
	client, boss := s.Client(secret), s.Client(s.Admin)
	session := client.Open(wire.Ref{Ref: "x", New: c[0].String()})
	client.Upload(session.ID, "all", ts.Pack(t, repo, client.Negotiate(session.ID, ts.Objects(t, repo, c[0])...)...))
	holder, err := libostree.Open(s.Repo)
	must.OK(t, err)
	defer holder.Close()
	must.OK(t, holder.Lock(t.Context(), libostree.Exclusive))
	client.Want(202, "POST", "/api/v1/sessions/"+session.ID+"/finalize", nil)
	var all []token.Token
	s.Change(func(c *config.Config) {
		all = c.Tokens
		c.Tokens = c.Tokens[:len(c.Tokens)-1]
	})
	must.OK(t, holder.Unlock(libostree.Exclusive))
	for got := boss.Session(session.ID); got.State != wire.Open; {
		got = boss.Wait(session.ID)
		if got.State == wire.Published {
			t.Fatal("published without a token")
		}
	}
	want(t, boss.Session(session.ID), wire.Open, wire.Forbidden, "token temp was taken away")
	if s.Ref("x") != "" {
		t.Error("the ref has moved")
	}
	s.Change(func(c *config.Config) { c.Tokens = all })
	want(t, client.Finalize(session.ID), wire.Published, "", "")
}

// Many refs on a long history cost one walk of it.
func TestManyRefsOnOneHistory(t *testing.T) { onBoth(t, testManyRefsOnOneHistory) }

func testManyRefsOnOneHistory(t *testing.T, kind string) {
	const commits, refs = 1000, 300
	file, tree, dirmeta := objects.SoundFile("sound").Object(), objects.SoundTree(), objects.SoundDirMeta()
	all := []objects.Object{file, objects.Metadata("dirtree", objects.Tree(nil, nil)), tree, dirmeta}
	var parent []byte
	for i := range commits {
		c := objects.SoundCommit()
		c.Subject, c.Parent = fmt.Sprint(i), parent
		o := objects.Metadata("commit", c.Bytes())
		all, parent = append(all, o), o.Sum[:]
	}
	s := ts.Start(t, kind)
	client := s.Client(s.Token)
	var moves []wire.Ref
	for i := range refs {
		moves = append(moves, wire.Ref{Ref: fmt.Sprint("os/r", i), New: object32([32]byte(all[len(all)-1-i].Sum))})
	}
	session := sending(t, client, all, moves...)
	want(t, client.Finalize(session.ID), wire.Published, "", "")
	// Forward by force or not: each ref's old commit lies on the same line.
	head := object32(all[len(all)-1].Sum)
	for i := range moves {
		moves[i].Old, moves[i].New = moves[i].New, head
	}
	want(t, client.Finalize(client.Open(moves...).ID), wire.Published, "", "")
	for i := range moves {
		moves[i].Old, moves[i].New = head, moves[i].Old
	}
	moves[0].New = object32(all[10].Sum)
	want(t, client.Finalize(client.Open(moves...).ID), wire.Failed, wire.NotFastForward, "does not descend")
}

// A commit that was in the repository before any session is not its who first named
// it with a ref of theirs.
func TestMetadataOfCommitFoundHere(t *testing.T) {
	repo, c := build(t, "one")
	s := ts.Start(t, "archive")
	mine := s.Client(s.AddToken(token.Options{Name: "a", Refs: []string{"os/a/**"}}))
	commit := c[0].String()
	must.OSTree(t, "pull-local", "--repo="+s.Repo, repo, commit)
	must.OSTree(t, "refs", "--repo="+s.Repo, "--create=os/b/x", commit)
	ref := wire.Ref{Ref: "os/a/x", New: commit}
	for range 2 {
		session := sending(t, mine, []objects.Object{signatures(t, commit, 1000<<10)}, ref)
		want(t, mine.Finalize(session.ID), wire.Published, "", "was left out")
		ref.Old = commit
	}
	if n := meta(t, s, commit); n != 0 {
		t.Errorf("the commit got %d bytes of detached metadata from another token", n)
	}
}

// What is left out is told of a few commits, however many they are: the journal keeps
// the words.
func TestMuchMetadataLeftOut(t *testing.T) { onBoth(t, testMuchMetadataLeftOut) }

func testMuchMetadataLeftOut(t *testing.T, kind string) {
	repo, c := build(t, "one")
	s := ts.Start(t, kind)
	client := s.Client(s.Token)
	head := c[0].String()
	want(t, client.Push(repo, wire.Ref{Ref: "x", New: head}), wire.Published, "", "")
	var metas []objects.Object
	for i := range 5 {
		metas = append(metas, signatures(t, fmt.Sprintf("%064x", i), 10))
	}
	session := sending(t, client, metas, wire.Ref{Ref: "x", Old: head, New: head})
	got := client.Finalize(session.ID)
	want(t, got, wire.Published, "", "; detached metadata of 2 more commits was left out")
	if n := strings.Count(got.Detail, "detached metadata of commit"); n != 3 {
		t.Errorf("%d commits are named: %s", n, got.Detail)
	}
}

// Detached metadata that others have made too large since a session was let through,
// before a crash, is left out: its refs may have moved.
func TestMetadataTooLargeAfterCrash(t *testing.T) { onBoth(t, testMetadataTooLargeAfterCrash) }

func testMetadataTooLargeAfterCrash(t *testing.T, kind string) {
	repo, c := build(t, "one")
	s := ts.Start(t, kind)
	client := s.Client(s.Token)
	head := c[0].String()
	want(t, client.Push(repo, wire.Ref{Ref: "x", New: head}), wire.Published, "", "")
	ref := wire.Ref{Ref: "x", Old: head, New: head}
	crashed := sending(t, client, []objects.Object{signatures(t, head, 600<<10)}, ref)
	other := sending(t, client, []objects.Object{signatures(t, head, 600<<10)}, ref)
	want(t, client.Finalize(other.ID), wire.Published, "", "")
	for _, state := range []journal.State{journal.Verifying, journal.Publishing} {
		_, err := s.Journal.Move(crashed.ID, state, nil)
		must.OK(t, err)
	}
	s.Publisher.Enqueue()
	want(t, client.Finalize(crashed.ID), wire.Published, "", "was left out")
}

// Detached metadata that cannot be read is the server's own trouble, and no reason to
// refuse a session for good.
func TestMetadataUnreadable(t *testing.T) {
	repo, c := build(t, "one")
	s := ts.Start(t, "archive")
	client := s.Client(s.Token)
	head := c[0].String()
	want(t, client.Push(repo, wire.Ref{Ref: "x", New: head}), wire.Published, "", "")
	session := sending(t, client, []objects.Object{signatures(t, head, 1<<10)}, wire.Ref{Ref: "x", Old: head, New: head})
	path := filepath.Join(s.Repo, "objects", head[:2], head[2:]+".commitmeta")
	must.OK(t, os.Mkdir(path, 0o755))
	want(t, client.Finalize(session.ID), wire.Open, wire.Internal, "is a directory")
	must.OK(t, os.Remove(path))
	want(t, client.Finalize(session.ID), wire.Published, "", "")
}

// A refusal quotes a few of what a commit says, however much that is: the journal
// keeps the words, and each list of sessions reads them.
func TestLongBindings(t *testing.T) { onBoth(t, testLongBindings) }

func testLongBindings(t *testing.T, kind string) {
	s := ts.Start(t, kind)
	client := s.Client(s.Token)
	commit := objects.SoundCommit()
	bindings := objects.Array(objects.Str("os/" + strings.Repeat("é", 1<<20)))
	commit.Meta = objects.Dict(objects.Item("ostree.ref-binding", "as", bindings))
	o := objects.Metadata("commit", commit.Bytes())
	_, others := objects.CommitOf(o, "")
	session := sending(t, client, append(others, o), wire.Ref{Ref: "x", New: object32(o.Sum)})
	got := client.Finalize(session.ID)
	want(t, got, wire.Failed, wire.Policy, "ref x: the commit is bound to refs")
	if len(got.Detail) > 3000 {
		t.Errorf("the refusal has %d bytes", len(got.Detail))
	}
}
