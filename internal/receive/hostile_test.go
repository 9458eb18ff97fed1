// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	build "github.com/lirios/ostree-upload/test/objects"
	ts "github.com/lirios/ostree-upload/test/server"
)

// named is an object's name as the server has it.
func named(t *testing.T, o build.Object) ostree.Name {
	t.Helper()
	n, err := ostree.ParseName(o.Name())
	must.OK(t, err)
	return n
}

func namesOf(t *testing.T, list ...build.Object) (names []ostree.Name) {
	t.Helper()
	for _, o := range list {
		names = append(names, named(t, o))
	}
	return names
}

// packOf frames objects.
func packOf(t *testing.T, list ...build.Object) []byte {
	t.Helper()
	b := []byte(wire.PackMagic)
	for _, o := range list {
		b = append(wire.AppendFrameHeader(b, named(t, o), int64(len(o.Bytes))), o.Bytes...)
	}
	return b
}

// snapshot is each file of a repository that clients read, with the checksum of
// its bytes: not the server's own state, locks, or libostree's temporary files.
func snapshot(t *testing.T, repo string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must.OK(t, filepath.WalkDir(repo, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && slices.Contains([]string{".ostree-upload", "tmp"}, e.Name()):
			return fs.SkipDir
		case e.IsDir():
			files[path] = "folder"
			return nil
		case e.Name() == ".lock":
			return nil
		}
		b, err := os.ReadFile(path)
		files[path] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	}))
	return files
}

// inMemory has the test's folders in memory, where there is room: these tests
// sync a hundred files to the disk a second, to no end.
func inMemory(t *testing.T) {
	t.Helper()
	const shm, room = "/dev/shm", 2 << 30 // more than the server's min-free-space
	var fs unix.Statfs_t
	if unix.Statfs(shm, &fs) == nil && int64(fs.Bavail)*fs.Bsize > room && unix.Access(shm, unix.W_OK) == nil {
		t.Setenv("TMPDIR", shm)
	}
}

// hostile is a running server and what a hostile client does to it.
type hostile struct {
	server *ts.Server
	*ts.Client
}

// TestHostileObjects pins that a bad object is refused by name with its reason,
// in a pack and alone; that a commit which needs it is not published and leaves
// no trace in the repository; and that the session goes on: it publishes as soon
// as it has the good object, or if it can do without.
func TestHostileObjects(t *testing.T) {
	inMemory(t)
	s := ts.Start(t, "archive")
	x := hostile{s, s.Client(s.Token)}
	cases := build.Hostiles()
	if len(cases) < 60 {
		t.Errorf("only %d cases", len(cases))
	}
	for i, h := range cases {
		t.Run(h.Case, func(t *testing.T) {
			ref := fmt.Sprint("hostile/", i)
			before := snapshot(t, s.Repo)
			session, commit := x.refuses(t, ref, h)
			if got := snapshot(t, s.Repo); !maps.Equal(got, before) {
				t.Fatalf("the repository changed: %v", got)
			}
			if h.Good != nil {
				x.Upload(session, h.Name(), h.Good)
				x.publishes(t, session, ref, commit)
				x.has(t, h)
				return
			}
			x.Want(200, "DELETE", "/api/v1/sessions/"+session, nil)
			x.publishesWithout(t, ref, h)
		})
	}
}

// refuses sends a commit that needs a bad object, all of it, and returns the
// session, which is open then, and the commit.
func (x hostile) refuses(t *testing.T, ref string, h build.Hostile) (session, commit string) {
	t.Helper()
	sum, others := build.CommitOf(h.Object, h.Case)
	commit = hex.EncodeToString(sum[:])
	session = x.Open(wire.Ref{Ref: ref, New: commit}).ID
	x.Negotiate(session, append(namesOf(t, others...), named(t, h.Object))...)
	x.Upload(session, "pack", packOf(t, append(others, h.Object)...))
	x.rejected(t, session, h)
	x.sendAlone(t, session, h)
	x.rejected(t, session, h)
	if lacking := x.Negotiate(session, namesOf(t, others...)...); len(lacking) > 0 {
		t.Errorf("the pack's other objects are lacking: %v", lacking)
	}
	x.notPublished(t, session, h)
	return session, commit
}

// notPublished finalizes a session that lacks the object.
func (x hostile) notPublished(t *testing.T, session string, h build.Hostile) {
	t.Helper()
	got := x.Finalize(session)
	if got.State != wire.Open {
		t.Fatalf("session %+v", got)
	}
	if got.Error != wire.BadObjects {
		t.Errorf("session %+v", got)
	}
	x.rejected(t, session, h)
}

// sendAlone sends an object as an upload of its own. One that is too large for
// its type is refused before a byte of it arrives.
func (x hostile) sendAlone(t *testing.T, session string, h build.Hostile) {
	t.Helper()
	if h.Type == "commitmeta" && len(h.Bytes) > ostree.MaxCommitMeta {
		a := x.Create(len(h.Bytes), ts.Metadata("session", session, "object", h.Name()))
		if a.Status != 413 || a.Problem(t).Code() != wire.TooLarge {
			t.Errorf("%d %s", a.Status, a.Body)
		}
		return
	}
	x.Upload(session, h.Name(), h.Bytes)
}

// rejected checks that the session lacks the object and says why.
func (x hostile) rejected(t *testing.T, session string, h build.Hostile) {
	t.Helper()
	n := named(t, h.Object)
	if lacking := x.Negotiate(session, n); !slices.Equal(lacking, []ostree.Name{n}) {
		t.Errorf("lacking %v, want %v", lacking, n)
	}
	got := x.Session(session)
	if got.Objects.Rejected != 1 || len(got.Problems) != 1 {
		t.Fatalf("session %+v", got)
	}
	if p := got.Problems[0]; p.Object != h.Name() || p.Code != wire.BadObjects || !strings.Contains(p.Reason, h.Reason) {
		t.Errorf("problem %+v, want object %s, %q", p, h.Name(), h.Reason)
	}
}

func (x hostile) publishes(t *testing.T, session, ref, commit string) {
	t.Helper()
	if got := x.Finalize(session); got.State != wire.Published || got.Error != "" {
		t.Fatalf("session %+v", got)
	}
	if got := x.server.Ref(ref); got != commit {
		t.Errorf("ref %s is at %s, want %s", ref, got, commit)
	}
}

// has checks that the good bytes are what the production repository holds.
func (x hostile) has(t *testing.T, h build.Hostile) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(x.server.Repo, "objects", h.Path()))
	if err != nil || !bytes.Equal(got, h.Good) {
		t.Errorf("object %s: %d bytes, %v", h.Name(), len(got), err)
	}
}

// publishesWithout sends a good commit together with a bad object that it does
// not need: the session publishes the one and has refused the other.
func (x hostile) publishesWithout(t *testing.T, ref string, h build.Hostile) {
	t.Helper()
	file := build.SoundFile("beside " + h.Case).Object()
	sum, others := build.CommitOf(file, h.Case)
	commit := hex.EncodeToString(sum[:])
	session := x.Open(wire.Ref{Ref: ref, New: commit}).ID
	all := append(others, h.Object, file)
	x.Negotiate(session, namesOf(t, all...)...)
	x.Upload(session, "pack", packOf(t, all...))
	x.rejected(t, session, h)
	x.publishes(t, session, ref, commit)
}

// TestCommitMetaOfAnother pins that a session cannot sign, or spoil, a commit
// that it does not push: neither one of the repository nor one that is nowhere.
func TestCommitMetaOfAnother(t *testing.T) {
	inMemory(t)
	s := ts.Start(t, "archive")
	x := hostile{s, s.Client(s.Token)}
	first := x.pushFile(t, "first", nil)
	meta := build.Dict(build.Item("ostree.sign.dummy", "aay", build.Array(build.Bytes('s')))).Bytes
	others := []build.Object{
		{Type: "commitmeta", Sum: first, Bytes: meta},
		{Type: "commitmeta", Sum: [32]byte{1}, Bytes: meta},
	}
	x.pushFile(t, "second", others)
	for _, o := range others {
		if _, err := os.Stat(filepath.Join(s.Repo, "objects", o.Path())); !os.IsNotExist(err) {
			t.Errorf("%s is in the repository: %v", o.Name(), err)
		}
	}
}

// pushFile publishes a commit of a file, sending more objects with it.
func (x hostile) pushFile(t *testing.T, ref string, more []build.Object) (commit [32]byte) {
	t.Helper()
	file := build.SoundFile(ref).Object()
	commit, others := build.CommitOf(file, ref)
	all := slices.Concat(others, more, []build.Object{file})
	sum := hex.EncodeToString(commit[:])
	session := x.Open(wire.Ref{Ref: ref, New: sum}).ID
	x.Negotiate(session, namesOf(t, all...)...)
	x.Upload(session, "pack", packOf(t, all...))
	x.publishes(t, session, ref, sum)
	return commit
}
