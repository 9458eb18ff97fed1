// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// A push of all that a file system for OSTree has arrives byte for byte.
func TestPush(t *testing.T) {
	t.Parallel()
	s, b := site.New(t), site.Big(t)
	r := s.Push(b)
	site.Published(t, b, s.Prod)
	if r.ObjectsSent != int64(b.Objects) || r.BytesSent < b.Payload {
		t.Errorf("%d objects, %d bytes sent; the commit has %d, %d", r.ObjectsSent, r.BytesSent, b.Objects, b.Payload)
	}
	t.Logf("%d objects, %d bytes in %.1f s", r.ObjectsSent, r.BytesSent, r.Seconds.Total)
}

// A commit that changes ten files sends those, the folders that hold them and
// itself; not the tree.
func TestUpdate(t *testing.T) {
	t.Parallel()
	s, b := site.New(t), site.Big(t)
	s.Push(b)
	repo, change := filepath.Join(s.Dir, "build"), filepath.Join(s.Dir, "change")
	must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
	must.OSTree(t, "pull-local", "--repo="+repo, b.Repo, b.Ref)
	folders := map[string]bool{".": true}
	for i := range 10 {
		name := site.BigName(300 * i)
		if err := site.WriteFile(filepath.Join(change, name), []byte(fmt.Sprintf("changed %d", i)), 0o644); err != nil {
			t.Fatal(err)
		}
		for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
			folders[dir] = true
		}
	}
	commit := must.OSTree(t, "commit", "--repo="+repo, "--branch="+b.Ref, "--tree=ref="+b.Ref, "--tree=dir="+change)
	r := s.Push(&site.Build{Repo: repo})
	most := int64(10 + len(folders) + 1)
	t.Logf("ten files in %d folders changed: %d objects, %d bytes sent", len(folders), r.ObjectsSent, r.BytesSent)
	if r.ObjectsSent != most {
		t.Errorf("sent %d objects, want %d", r.ObjectsSent, most)
	}
	if head := must.OSTree(t, "rev-parse", "--repo="+s.Prod, b.Ref); head != commit {
		t.Errorf("%s is %s, want %s", b.Ref, head, commit)
	}
}

// The client builds and pushes without libostree, and the server says which
// build it needs.
func TestClientWithoutCgo(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	b := site.Small(t, "os/nocgo", "nocgo")
	client := filepath.Join(s.Dir, "client")
	must.OK(t, site.Compile([]string{"CGO_ENABLED=0"}, client))
	with := func(args ...string) *exec.Cmd {
		cmd := s.Command(args...)
		cmd.Path, cmd.Err = client, nil
		return cmd
	}
	site.Finish(t, with("push", "--repo", b.Repo)).Must(t, 0)
	site.Published(t, b, s.Prod)
	e := site.Finish(t, with("receive", "--repo", "other", "--init")).Must(t, 1)
	if !strings.Contains(e.Stderr, "has no libostree") || !strings.Contains(e.Stderr, "hint: build it with CGO_ENABLED=1") {
		t.Errorf("it says %s", e.Stderr)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "other")); err == nil {
		t.Error("it made a repository")
	}
}

// An ordinary client pulls what was published, from any web server.
func TestFreePull(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	b := site.Small(t, "os/pulled", "pulled")
	s.Push(b)
	web := httptest.NewServer(http.FileServer(http.Dir(s.Prod)))
	t.Cleanup(web.Close)
	third := filepath.Join(s.Dir, "third")
	must.OSTree(t, "init", "--repo="+third, "--mode=archive")
	must.OSTree(t, "remote", "add", "--repo="+third, "--no-gpg-verify", "prod", web.URL)
	must.OSTree(t, "pull", "--repo="+third, "prod", b.Ref)
	must.OSTree(t, "fsck", "--repo="+third)
	if commit := must.OSTree(t, "rev-parse", "--repo="+third, "prod:"+b.Ref); commit != b.Commit {
		t.Errorf("pulled %s, want %s", commit, b.Commit)
	}
	if refs := must.OSTree(t, "remote", "refs", "--repo="+third, "prod"); refs != "prod:"+b.Ref {
		t.Errorf("the summary lists %q", refs)
	}
	// The bytes of files may differ: libostree compresses them anew.
	list := func(repo string) string { return must.OSTree(t, "ls", "-R", "-C", "-X", "--repo="+repo, b.Commit) }
	if list(third) != list(b.Repo) {
		t.Error("what was pulled is not what was committed")
	}
}
