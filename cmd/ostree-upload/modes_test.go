// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"archive/tar"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
)

const userOnly = "bare-user-only"

var modes = []string{"archive", "bare", "bare-user", userOnly}

// canonical makes a commit of what a bare-user-only repository can hold.
var canonical = []string{"--canonical-permissions", "--no-xattrs"}

// newSiteOf is newSite with a production repository of a mode.
func newSiteOf(t *testing.T, mode string) *site {
	t.Helper()
	if mode == "bare" && os.Geteuid() != 0 {
		t.Skip("needs root: a bare repository can only be written by it")
	}
	dir := t.TempDir()
	s := &site{t: t, dir: dir, prod: filepath.Join(dir, "prod")}
	s.token = strings.TrimSpace(s.run("gentoken", "--name", "ci", "--scope", "push", "--scope", "force").must(t, 0).stdout)
	runOSTree(t, "init", "--repo="+s.prod, "--mode="+mode)
	t.Cleanup(s.end)
	s.start()
	return s
}

// commitIn commits a folder to a branch of a repository of a mode, which it makes if
// needed, and returns the commit.
func commitIn(t *testing.T, repo, mode, ref, tree string, flags ...string) string {
	t.Helper()
	if _, err := os.Stat(repo); err != nil {
		runOSTree(t, "init", "--repo="+repo, "--mode="+mode)
	}
	args := []string{"commit", "--fsync=false", "--repo=" + repo, "--branch=" + ref, "--tree=dir=" + tree}
	return runOSTree(t, append(args, flags...)...)
}

// A source is a build repository of a mode: a commit of all that OSTree stores,
// but for bare-user-only, and one of what bare-user-only can hold.
type modeSource struct {
	mode, repo      string
	full, canonical string
}

const (
	fullRef      = "os/full"
	canonicalRef = "os/canonical"
)

// modeSources makes one for each mode, all of different content.
func modeSources(t *testing.T) []modeSource {
	t.Helper()
	var sources []modeSource
	for _, mode := range modes {
		tree := filepath.Join(t.TempDir(), "tree")
		everythingTree(t, tree, mode)
		s := modeSource{mode: mode, repo: filepath.Join(t.TempDir(), "build")}
		s.canonical = commitIn(t, s.repo, mode, canonicalRef, tree, canonical...)
		if mode != userOnly {
			s.full = commitIn(t, s.repo, mode, fullRef, tree)
		}
		check(t, os.RemoveAll(tree))
		sources = append(sources, s)
	}
	return sources
}

// Every mode of source into every mode of target: what is checked out there is
// what is checked out here. Where bare-user-only takes part, commits are
// canonical.
func TestModes(t *testing.T) {
	t.Parallel()
	for _, from := range modeSources(t) {
		for _, to := range modes {
			t.Run(from.mode+" to "+to, func(t *testing.T) {
				t.Parallel()
				ref, commit := fullRef, from.full
				user := from.mode == userOnly || to == userOnly
				if user {
					ref, commit = canonicalRef, from.canonical
				}
				s := newSiteOf(t, to)
				s.push(&build{repo: from.repo}, ref)
				arrivedWhole(t, from.repo, s.prod, ref, commit, user)
			})
		}
	}
}

// arrivedWhole compares a commit in two repositories: its tree as listed, and as
// checked out.
func arrivedWhole(t *testing.T, from, to, ref, commit string, user bool) {
	t.Helper()
	if head := runOSTree(t, "rev-parse", "--repo="+to, ref); head != commit {
		t.Errorf("%s is %s, want %s", ref, head, commit)
	}
	runOSTree(t, "fsck", "--repo="+to)
	list := func(repo string) string { return runOSTree(t, "ls", "-R", "-C", "-X", "--repo="+repo, commit) }
	same(t, "ostree ls", list(to), list(from))
	tree := checkout(t, from, commit, user)
	same(t, "the checkout", checkout(t, to, commit, user), tree)
	for _, special := range []string{" 104755 1000:1000", "security.capability=", `user.eins="one\x00`, "user.folder="} {
		if !user && !strings.Contains(tree, special) {
			t.Errorf("the checkout has no %s:\n%s", special, tree)
		}
	}
}

// same compares line by line.
func same(t *testing.T, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Errorf("%s differs in line %d:\n%s\nwant\n%s", what, i, a[i], b[i])
			return
		}
	}
	t.Errorf("%s has %d lines, want %d", what, len(a), len(b))
}

// objectNamed finds the name of a content object in a message.
var objectNamed = regexp.MustCompile(`\b[0-9a-f]{64}\.(filez|dirtree|dirmeta|commit)\b`)

// refused checks that a push is refused as policy, that the message says why and
// of which object, and that the repository is as it was.
func refused(t *testing.T, s *site, repo, ref, why string) {
	t.Helper()
	before := content(t, s.prod)
	e := s.run("push", "--json", "--repo", repo, ref).must(t, push.ExitRefused)
	r := e.result(t)
	if r.ErrorCode != wire.Policy || r.Session.State != wire.Failed || !strings.Contains(r.Error, why) || !objectNamed.MatchString(r.Error) {
		t.Errorf("%s, session %s: %s", r.ErrorCode, r.Session.State, r.Error)
	}
	same(t, "the repository", content(t, s.prod), before)
}

// content lists all that a repository holds but for .lock, an empty file that
// libostree makes when it first takes its lock.
func content(t *testing.T, repo string) string {
	t.Helper()
	list, err := listing(repo)
	check(t, err)
	lines := strings.Split(list, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "/.lock ") }), "\n")
}

// What bare-user-only cannot hold is refused before anything changes, for each
// reason.
func TestNotForBareUserOnly(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: files get other owners")
	}
	s := newSiteOf(t, userOnly)
	repo := filepath.Join(s.dir, "build")
	for _, c := range []struct {
		name, why string
		flags     []string
		mode      os.FileMode
	}{
		{"owner", "belongs to 7:0", []string{"--owner-uid=7", "--owner-gid=0", "--no-xattrs"}, 0o644},
		{"group", "belongs to 0:7", []string{"--owner-uid=0", "--owner-gid=7", "--no-xattrs"}, 0o644},
		{"setuid", "mode 04755", []string{"--owner-uid=0", "--owner-gid=0", "--no-xattrs"}, 0o755 | os.ModeSetuid},
		{"writable", "mode 0666", []string{"--owner-uid=0", "--owner-gid=0", "--no-xattrs"}, 0o666},
	} {
		tree := filepath.Join(s.dir, c.name)
		check(t, writeFile(filepath.Join(tree, "file"), []byte(c.name), c.mode))
		commitIn(t, repo, "bare-user", c.name, tree, c.flags...)
		refused(t, s, repo, c.name, c.why)
	}
	tree := filepath.Join(s.dir, "all")
	everythingTree(t, tree, "all")
	commitIn(t, repo, "bare-user", "all", tree)
	refused(t, s, repo, "all", "a bare-user-only repository") // whichever object is looked at first
	commitIn(t, repo, "bare-user", "good", tree, canonical...)
	s.push(&build{repo: repo}, "good")
}

// xattrsTar makes a tar archive with a file of some xattrs, which libostree
// 2022.7 stores in the order of the archive's reader.
func xattrsTar(t *testing.T, path string, xattrs map[string]string) {
	t.Helper()
	f, err := os.Create(path)
	check(t, err)
	defer f.Close()
	w := tar.NewWriter(f)
	records := map[string]string{}
	for name, value := range xattrs {
		records["SCHILY.xattr."+name] = value
	}
	check(t, w.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}))
	check(t, w.WriteHeader(&tar.Header{Name: "./marked", Typeflag: tar.TypeReg, Mode: 0o644, Size: 2, PAXRecords: records}))
	_, err = w.Write([]byte("x\n"))
	check(t, err)
	check(t, w.Close())
}

// Xattrs in the order in which a tar import by libostree 2022.7 leaves them
// arrive in an archive as they are. A bare repository, where the file system
// sorts them, would read back another checksum, and refuses.
func TestUnsortedXattrs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repo, archive := filepath.Join(dir, "build"), filepath.Join(dir, "a.tar")
	xattrsTar(t, archive, map[string]string{"user.a": "1", "user.b": "2", "user.c": "3", "user.d": "4"})
	runOSTree(t, "init", "--repo="+repo, "--mode=archive")
	commit := runOSTree(t, "commit", "--repo="+repo, "--branch=os/tar", "--tree=tar="+archive, "--owner-uid=0", "--owner-gid=0")
	if !hasUnsorted(t, repo) {
		t.Skip("this libostree sorts xattrs itself, as 2024.10 and later do")
	}
	for _, to := range []string{"archive", "bare-user"} {
		s := newSiteOf(t, to)
		s.push(&build{repo: repo})
		if head := runOSTree(t, "rev-parse", "--repo="+s.prod, "os/tar"); head != commit {
			t.Errorf("%s: os/tar is %s", to, head)
		}
	}
	refused(t, newSiteOf(t, "bare"), repo, "os/tar", "not sorted")
}

// A file in a bare repository may have xattrs of empty value: a commit that
// takes files as they are, by --consume, leaves them there and does not count them.
func TestEmptyXattr(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	tree, repo := filepath.Join(s.dir, "tree"), filepath.Join(s.dir, "build")
	everythingTree(t, tree, "empty")
	commit := commitIn(t, repo, "bare", "os/empty", tree, "--consume")
	s.push(&build{repo: repo})
	arrivedWhole(t, repo, s.prod, "os/empty", commit, false)
}

// A bare repository cannot hold an xattr of empty value, which a tar import may
// bring: libostree leaves it out when it reads the file back.
func TestEmptyXattrIntoBare(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repo, archive := filepath.Join(dir, "build"), filepath.Join(dir, "a.tar")
	xattrsTar(t, archive, map[string]string{"user.empty": ""})
	runOSTree(t, "init", "--repo="+repo, "--mode=archive")
	runOSTree(t, "commit", "--repo="+repo, "--branch=os/tar", "--tree=tar="+archive, "--owner-uid=0", "--owner-gid=0")
	for _, to := range []string{"archive", "bare-user"} {
		newSiteOf(t, to).push(&build{repo: repo})
	}
	refused(t, newSiteOf(t, "bare"), repo, "os/tar", "of empty value")
}

// hasUnsorted tells whether the one file of a repository has unsorted xattrs.
func hasUnsorted(t *testing.T, repo string) bool {
	t.Helper()
	r, err := ostree.OpenRepo(repo)
	check(t, err)
	h, err := r.FileHeader(onlyFile(t, repo, "*.filez"))
	check(t, err)
	if len(h.Xattrs) != 4 {
		t.Fatalf("%d xattrs arrived in the build repository", len(h.Xattrs))
	}
	return !slices.IsSortedFunc(h.Xattrs, func(a, b ostree.Xattr) int { return strings.Compare(string(a.Name), string(b.Name)) })
}

// An object of the build repository that is damaged on disk stops the push: it
// names the object and where it is damaged, and no ref moves.
func TestDamagedSource(t *testing.T) {
	t.Parallel()
	flip := func(t *testing.T, path string) {
		b, err := os.ReadFile(path)
		check(t, err)
		b[len(b)/2] ^= 0x40
		f, err := os.OpenFile(path, os.O_WRONLY, 0) // in place: xattrs stay
		check(t, err)
		_, err = f.Write(b)
		check(t, err)
		check(t, f.Close())
	}
	cut := func(t *testing.T, path string) {
		info, err := os.Stat(path)
		check(t, err)
		check(t, os.Truncate(path, info.Size()-7))
	}
	const rotten, small, large = "is damaged", 30_000, 5 << 20
	for _, c := range []struct {
		name, mode, glob string
		damage           func(*testing.T, string)
		size             int
		says             string
	}{
		{"flipped in archive", "archive", "*.filez", flip, small, rotten},
		{"flipped in archive, alone", "archive", "*.filez", flip, large, rotten},
		{"cut in archive", "archive", "*.filez", cut, small, rotten},
		{"cut in archive, alone", "archive", "*.filez", cut, large, rotten},
		{"flipped in bare-user", "bare-user", "*.file", flip, small, rotten},
		{"flipped in bare-user, alone", "bare-user", "*.file", flip, large, rotten},
		{"cut in bare-user", "bare-user", "*.file", cut, small, rotten},
		{"flipped in bare-user-only", userOnly, "*.file", flip, small, rotten},
		{"flipped tree", "bare-user", "*.dirtree", flip, small, rotten},
		{"flipped folder's mode", "archive", "*.dirmeta", flip, small, rotten},
		{"flipped commit", "archive", "*.commit", flip, small, rotten},
		{"gone", "archive", "*.filez", func(t *testing.T, path string) { check(t, os.Remove(path)) }, small, "is not in repository"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			tree, repo := filepath.Join(s.dir, "tree"), filepath.Join(s.dir, "build")
			content := strings.Repeat(fmt.Sprintln(c.name), c.size/len(c.name)) // no filez above 4 MiB
			if c.size == large {
				content = incompressible(c.size)
			}
			check(t, writeFile(filepath.Join(tree, "folder", "file"), []byte(content), 0o644))
			commitIn(t, repo, c.mode, "os/x", tree, canonical...)
			files, err := filepath.Glob(filepath.Join(repo, "objects", "*", c.glob))
			if err != nil || len(files) == 0 {
				t.Fatalf("no %s: %v", c.glob, err)
			}
			c.damage(t, files[0])
			e := s.run("push", "--repo", repo).must(t, push.ExitFailed)
			s.noRefs()
			hex := filepath.Base(filepath.Dir(files[0])) + filepath.Base(files[0])[:62]
			if !strings.Contains(e.stderr, hex) || !strings.Contains(e.stderr, c.says) || !strings.Contains(e.stderr, "build") || e.stdout != "" {
				t.Errorf("it says of %s\n%s", hex, e.stderr)
			}
			if !strings.Contains(e.stderr, "check it with: ostree fsck --repo=") {
				t.Errorf("it does not say what to do:\n%s", e.stderr)
			}
		})
	}
}
