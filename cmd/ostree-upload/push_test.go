// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A push of all that a file system for OSTree has arrives byte for byte.
func TestPush(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), big(t)
	r := s.push(b)
	published(t, b, s.prod)
	if r.ObjectsSent != int64(b.objects) || r.BytesSent < b.payload {
		t.Errorf("%d objects, %d bytes sent; the commit has %d, %d", r.ObjectsSent, r.BytesSent, b.objects, b.payload)
	}
	t.Logf("%d objects, %d bytes in %.1f s", r.ObjectsSent, r.BytesSent, r.Seconds.Total)
}

// A commit that changes ten files sends those, the folders that hold them and
// itself; not the tree.
func TestUpdate(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), big(t)
	s.push(b)
	repo, change := filepath.Join(s.dir, "build"), filepath.Join(s.dir, "change")
	runOSTree(t, "init", "--repo="+repo, "--mode=archive")
	runOSTree(t, "pull-local", "--repo="+repo, b.repo, b.ref)
	folders := map[string]bool{".": true}
	for i := range 10 {
		name := bigName(300 * i)
		if err := writeFile(filepath.Join(change, name), []byte(fmt.Sprintf("changed %d", i)), 0o644); err != nil {
			t.Fatal(err)
		}
		for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
			folders[dir] = true
		}
	}
	commit := runOSTree(t, "commit", "--repo="+repo, "--branch="+b.ref, "--tree=ref="+b.ref, "--tree=dir="+change)
	r := s.push(&build{repo: repo})
	most := int64(10 + len(folders) + 1)
	t.Logf("ten files in %d folders changed: %d objects, %d bytes sent", len(folders), r.ObjectsSent, r.BytesSent)
	if r.ObjectsSent != most {
		t.Errorf("sent %d objects, want %d", r.ObjectsSent, most)
	}
	if head := runOSTree(t, "rev-parse", "--repo="+s.prod, b.ref); head != commit {
		t.Errorf("%s is %s, want %s", b.ref, head, commit)
	}
}

// The client builds and pushes without libostree, and the server says which
// build it needs.
func TestClientWithoutCgo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := small(t, "os/nocgo", "nocgo")
	client := filepath.Join(s.dir, "client")
	compile := exec.Command("go", "build", "-buildvcs=false", "-o", client, ".")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	with := func(args ...string) *exec.Cmd {
		cmd := s.command(args...)
		cmd.Path, cmd.Err = client, nil
		return cmd
	}
	finish(t, with("push", "--repo", b.repo)).must(t, 0)
	published(t, b, s.prod)
	e := finish(t, with("receive", "--repo", "other", "--init")).must(t, 1)
	if !strings.Contains(e.stderr, "has no libostree") || !strings.Contains(e.stderr, "hint: build it with CGO_ENABLED=1") {
		t.Errorf("it says %s", e.stderr)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "other")); err == nil {
		t.Error("it made a repository")
	}
}

// An ordinary client pulls what was published, from any web server.
func TestFreePull(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := small(t, "os/pulled", "pulled")
	s.push(b)
	web := httptest.NewServer(http.FileServer(http.Dir(s.prod)))
	t.Cleanup(web.Close)
	third := filepath.Join(s.dir, "third")
	runOSTree(t, "init", "--repo="+third, "--mode=archive")
	runOSTree(t, "remote", "add", "--repo="+third, "--no-gpg-verify", "prod", web.URL)
	runOSTree(t, "pull", "--repo="+third, "prod", b.ref)
	runOSTree(t, "fsck", "--repo="+third)
	if commit := runOSTree(t, "rev-parse", "--repo="+third, "prod:"+b.ref); commit != b.commit {
		t.Errorf("pulled %s, want %s", commit, b.commit)
	}
	if refs := runOSTree(t, "remote", "refs", "--repo="+third, "prod"); refs != "prod:"+b.ref {
		t.Errorf("the summary lists %q", refs)
	}
	// The bytes of files may differ: libostree compresses them anew.
	list := func(repo string) string { return runOSTree(t, "ls", "-R", "-C", "-X", "--repo="+repo, b.commit) }
	if list(third) != list(b.repo) {
		t.Error("what was pulled is not what was committed")
	}
}
