// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/process"
	"github.com/lirios/ostree-upload/test/server"
	"github.com/lirios/ostree-upload/test/site"
)

// What TestLargeFile pushes: a file of largeFile bytes, mostly zeros, with noise
// in it that no compressor takes away. The client may never hold all of it.
const (
	largeFile   = 512 << 20
	largeNoise  = 32 << 20
	largeMemory = 200 << 20
)

// largeBuild commits the large file to a bare-user repository.
func largeBuild(t *testing.T) (repo, commit string, object ostree.Name) {
	t.Helper()
	tree := filepath.Join(t.TempDir(), "tree")
	must.OK(t, os.Mkdir(tree, 0o755))
	f, err := os.Create(filepath.Join(tree, "large"))
	must.OK(t, err)
	defer f.Close()
	must.OK(t, f.Truncate(largeFile)) // holes
	random := rand.NewChaCha8([32]byte{9})
	const pieces = 8
	for i := range int64(pieces) {
		_, err := f.WriteAt(site.RandomBytes(random, largeNoise/pieces), i*largeFile/pieces)
		must.OK(t, err)
	}
	repo = filepath.Join(t.TempDir(), "build")
	commit = site.Commit(t, repo, "bare-user", "os/large", tree, site.Canonical...)
	must.OK(t, os.RemoveAll(tree))
	return repo, commit, onlyFile(t, repo, "*.file")
}

// onlyFile is the name of the one content object of a repository.
func onlyFile(t *testing.T, repo, glob string) ostree.Name {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repo, "objects", "*", glob))
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	hex := filepath.Base(filepath.Dir(files[0])) + filepath.Base(files[0])[:62]
	sum, err := ostree.ParseChecksum(hex)
	must.OK(t, err)
	return ostree.Name{Checksum: sum, Type: ostree.File}
}

// watch measures a client of a link when n bytes were delivered, and kills it
// there if it is told to.
func watch(t *testing.T, l *link.Proxy, cmd *exec.Cmd, n int64, kill bool) {
	t.Helper()
	var most int64
	err := errors.New("it ended before")
	started := make(chan struct{})
	l.At(n, func() {
		<-started
		most, err = process.PeakMemory(cmd.Process.Pid)
		if kill {
			cmd.Process.Kill()
		}
	})
	wait := site.Background(t, cmd)
	close(started)
	e := wait()
	if killed := e.Exit == -1; killed != kill || !kill && e.Exit != 0 {
		t.Fatalf("it ended with %d\n%s", e.Exit, e.Stderr)
	}
	must.OK(t, err)
	t.Logf("the client had %d MiB in memory at most", most>>20)
	if most > largeMemory && !site.UnderRace {
		t.Errorf("the client had %d MiB in memory, more than %d", most>>20, largeMemory>>20)
	}
}

// A large file out of a bare-user repository is converted as it streams: the
// client needs little memory, sends it in chunks, and killed in the middle goes
// on from the byte.
func TestLargeFile(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a file of 512 MiB")
	}
	repo, commit, object := largeBuild(t)
	s := site.New(t)
	l := s.Link()
	args := []string{"push", "--repo", repo, "--chunk-size", "4MiB"}
	watch(t, l, s.Command(args...), largeNoise*2/3, true)
	s.NoRefs()
	killed := s.OpenSession()
	offset := offset(s, killed.ID, object)
	if offset < largeNoise/3 {
		t.Errorf("the server has %d bytes of what was sent: they do not arrive in chunks", offset)
	}
	watch(t, l, s.Command(append(args, "--resume", killed.ID)...), largeNoise*7/8, false)
	s.AtHead("os/large", commit)
	info, err := os.Stat(filepath.Join(s.Prod, "objects", object.Path()))
	must.OK(t, err)
	t.Logf("%d bytes delivered for %d; %d were there", l.Delivered(), info.Size(), offset)
	if extra := l.Delivered() - info.Size(); extra > 4<<20+site.Chatter { // the chunk that was cut
		t.Errorf("%d bytes delivered for %d", l.Delivered(), info.Size())
	}
}

// offset is how much the server has of an object that is uploaded alone.
func offset(s *site.Site, session string, object ostree.Name) int64 {
	s.T.Helper()
	client, err := client.New(s.URL, s.Token)
	must.OK(s.T, err)
	defer client.Close()
	now, err := client.Session(s.T.Context(), session, 0)
	must.OK(s.T, err)
	for _, u := range now.Uploads {
		if u.Name == object.String() {
			return u.Offset
		}
	}
	s.T.Fatalf("no upload of %s in %v", object, now.Uploads)
	return 0
}

// An upload that another compressor began, of other bytes of the same object, is
// of no use: the client ends it and begins again.
func TestOtherCompressor(t *testing.T) {
	t.Parallel()
	const ref = "os/other"
	tree, repo := filepath.Join(t.TempDir(), "tree"), filepath.Join(t.TempDir(), "build")
	must.OK(t, site.WriteFile(filepath.Join(tree, "file"), []byte(incompressible(5<<20)), 0o644))
	commit := site.Commit(t, repo, "bare-user", ref, tree, site.Canonical...)
	object := onlyFile(t, repo, "*.file")
	r, err := ostree.OpenRepo(repo)
	must.OK(t, err)
	o, err := r.Object(t.Context(), object)
	must.OK(t, err)
	digestIsOf(t, o)
	for name, digest := range map[string]string{"same length": strings.Repeat("ab", 32), "no digest, other length": ""} {
		t.Run(name, func(t *testing.T) {
			s := server.Start(t, "archive")
			c := s.Client(s.Token)
			session := c.Open(wire.Ref{Ref: ref, New: commit})
			c.Negotiate(session.ID, object)
			length, meta := int(o.Size), []string{"session", session.ID, "object", object.String()}
			if digest == "" {
				length++
			} else {
				meta = append(meta, "digest", digest)
			}
			if a := c.Create(length, server.Metadata(meta...)); a.Status != http.StatusCreated {
				t.Fatalf("create: %d %s", a.Status, a.Body)
			}
			if a := c.Patch(session.ID, object.String(), 0, make([]byte, 1<<20)); a.Status != http.StatusNoContent {
				t.Fatalf("patch: %d %s", a.Status, a.Body)
			}
			result, err := push.Run(t.Context(), push.Options{Repo: repo, Server: client.Options{Address: s.URL, Token: s.Token}, Depth: -1})
			must.OK(t, err)
			if result.Session.ID != session.ID || s.Ref(ref) != commit {
				t.Errorf("session %s, want %s; %s is %s", result.Session.ID, session.ID, ref, s.Ref(ref))
			}
			if result.BytesSent < o.Size || result.Rounds != 0 {
				t.Errorf("%d bytes sent of %d, in %d more rounds", result.BytesSent, o.Size, result.Rounds)
			}
		})
	}
}

// digestIsOf checks that an object's digest is that of the bytes that will be sent.
func digestIsOf(t *testing.T, o *ostree.Object) {
	t.Helper()
	f, err := o.Open()
	must.OK(t, err)
	defer f.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	must.OK(t, err)
	if !bytes.Equal(sum.Sum(nil), o.Digest) {
		t.Errorf("the digest is %x, the bytes have %x", o.Digest, sum.Sum(nil))
	}
}
