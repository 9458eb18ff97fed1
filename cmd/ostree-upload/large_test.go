// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
	"github.com/lirios/ostree-upload/test/server"
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
	check(t, os.Mkdir(tree, 0o755))
	f, err := os.Create(filepath.Join(tree, "large"))
	check(t, err)
	defer f.Close()
	check(t, f.Truncate(largeFile)) // holes
	random := rand.NewChaCha8([32]byte{9})
	const pieces = 8
	for i := range int64(pieces) {
		_, err := f.WriteAt(randomBytes(random, largeNoise/pieces), i*largeFile/pieces)
		check(t, err)
	}
	repo = filepath.Join(t.TempDir(), "build")
	commit = commitIn(t, repo, "bare-user", "os/large", tree, canonical...)
	check(t, os.RemoveAll(tree))
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
	check(t, err)
	return ostree.Name{Checksum: sum, Type: ostree.File}
}

var peak = regexp.MustCompile(`(?m)^VmHWM:\s*(\d+) kB$`)

// peakMemory is the most that a running process has had in memory. Not from its
// rusage, which begins with the memory of the process that started it.
func peakMemory(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	m := peak.FindSubmatch(b)
	if m == nil {
		return 0, fmt.Errorf("no VmHWM in %q", b)
	}
	kb, err := strconv.ParseInt(string(m[1]), 10, 64)
	return kb << 10, err
}

// underRace tells whether this binary watches for data races, which takes several
// times the memory.
func underRace() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, s := range info.Settings {
		if s.Key == "-race" && s.Value == "true" {
			return true
		}
	}
	return false
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
		most, err = peakMemory(cmd.Process.Pid)
		if kill {
			cmd.Process.Kill()
		}
	})
	wait := background(t, cmd)
	close(started)
	e := wait()
	if killed := e.exit == -1; killed != kill || !kill && e.exit != 0 {
		t.Fatalf("it ended with %d\n%s", e.exit, e.stderr)
	}
	check(t, err)
	t.Logf("the client had %d MiB in memory at most", most>>20)
	if most > largeMemory && !underRace() {
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
	s := newSite(t)
	l := s.link()
	args := []string{"push", "--repo", repo, "--chunk-size", "4MiB"}
	watch(t, l, s.command(args...), largeNoise*2/3, true)
	s.noRefs()
	killed := s.openSession()
	offset := s.offset(killed.ID, object)
	if offset < largeNoise/3 {
		t.Errorf("the server has %d bytes of what was sent: they do not arrive in chunks", offset)
	}
	watch(t, l, s.command(append(args, "--resume", killed.ID)...), largeNoise*7/8, false)
	s.atHead("os/large", commit)
	info, err := os.Stat(filepath.Join(s.prod, "objects", object.Path()))
	check(t, err)
	t.Logf("%d bytes delivered for %d; %d were there", l.Delivered(), info.Size(), offset)
	if extra := l.Delivered() - info.Size(); extra > 4<<20+chatter { // the chunk that was cut
		t.Errorf("%d bytes delivered for %d", l.Delivered(), info.Size())
	}
}

// offset is how much the server has of an object that is uploaded alone.
func (s *site) offset(session string, object ostree.Name) int64 {
	s.t.Helper()
	client, err := client.New(s.url, s.token)
	check(s.t, err)
	defer client.Close()
	now, err := client.Session(s.t.Context(), session, 0)
	check(s.t, err)
	for _, u := range now.Uploads {
		if u.Name == object.String() {
			return u.Offset
		}
	}
	s.t.Fatalf("no upload of %s in %v", object, now.Uploads)
	return 0
}

// An upload that another compressor began, of other bytes of the same object, is
// of no use: the client ends it and begins again.
func TestOtherCompressor(t *testing.T) {
	t.Parallel()
	const ref = "os/other"
	tree, repo := filepath.Join(t.TempDir(), "tree"), filepath.Join(t.TempDir(), "build")
	check(t, writeFile(filepath.Join(tree, "file"), []byte(incompressible(5<<20)), 0o644))
	commit := commitIn(t, repo, "bare-user", ref, tree, canonical...)
	object := onlyFile(t, repo, "*.file")
	r, err := ostree.OpenRepo(repo)
	check(t, err)
	o, err := r.Object(t.Context(), object)
	check(t, err)
	digestIsOf(t, o)
	for name, digest := range map[string]string{"same length": strings.Repeat("ab", 32), "no digest, other length": ""} {
		t.Run(name, func(t *testing.T) {
			s := server.Start(t, "archive")
			client := s.Client(s.Token)
			session := client.Open(wire.Ref{Ref: ref, New: commit})
			client.Negotiate(session.ID, object)
			length, meta := int(o.Size), []string{"session", session.ID, "object", object.String()}
			if digest == "" {
				length++
			} else {
				meta = append(meta, "digest", digest)
			}
			if a := client.Create(length, server.Metadata(meta...)); a.Status != http.StatusCreated {
				t.Fatalf("create: %d %s", a.Status, a.Body)
			}
			if a := client.Patch(session.ID, object.String(), 0, make([]byte, 1<<20)); a.Status != http.StatusNoContent {
				t.Fatalf("patch: %d %s", a.Status, a.Body)
			}
			result, err := push.Run(t.Context(), push.Options{Repo: repo, Address: s.URL, Token: s.Token, Depth: -1})
			check(t, err)
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
	check(t, err)
	defer f.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	check(t, err)
	if !bytes.Equal(sum.Sum(nil), o.Digest) {
		t.Errorf("the digest is %x, the bytes have %x", o.Digest, sum.Sum(nil))
	}
}
