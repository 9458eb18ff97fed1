// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

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
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

const userOnly = "bare-user-only"

var modes = []string{"archive", "bare", "bare-user", userOnly}

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
		s.canonical = site.Commit(t, s.repo, mode, canonicalRef, tree, site.Canonical...)
		if mode != userOnly {
			s.full = site.Commit(t, s.repo, mode, fullRef, tree)
		}
		must.OK(t, os.RemoveAll(tree))
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
				s := site.NewOf(t, to)
				s.Push(&site.Build{Repo: from.repo}, ref)
				arrivedWhole(t, from.repo, s.Prod, ref, commit, user)
			})
		}
	}
}

// arrivedWhole compares a commit in two repositories: its tree as listed, and as
// checked out.
func arrivedWhole(t *testing.T, from, to, ref, commit string, user bool) {
	t.Helper()
	if head := must.OSTree(t, "rev-parse", "--repo="+to, ref); head != commit {
		t.Errorf("%s is %s, want %s", ref, head, commit)
	}
	must.OSTree(t, "fsck", "--repo="+to)
	list := func(repo string) string { return must.OSTree(t, "ls", "-R", "-C", "-X", "--repo="+repo, commit) }
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

// refused checks that a push is refused as policy before there is a session, that
// the message says why and of which object, and that the repository is as it was.
func refused(t *testing.T, s *site.Site, repo, ref, why string) {
	t.Helper()
	before := content(t, s.Prod)
	e := s.Run("push", "--json", "--repo", repo, ref).Must(t, push.ExitRefused)
	r := e.Result(t)
	if r.ErrorCode != wire.Policy || r.Session.ID != "" || !strings.Contains(r.Error, why) || !objectNamed.MatchString(r.Error) {
		t.Errorf("%s, session %s: %s", r.ErrorCode, r.Session.State, r.Error)
	}
	same(t, "the repository", content(t, s.Prod), before)
}

// content lists all that a repository holds but for .lock, an empty file that
// libostree makes when it first takes its lock.
func content(t *testing.T, repo string) string {
	t.Helper()
	list, err := listing(repo)
	must.OK(t, err)
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
	s := site.NewOf(t, userOnly)
	repo := filepath.Join(s.Dir, "build")
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
		tree := filepath.Join(s.Dir, c.name)
		must.OK(t, site.WriteFile(filepath.Join(tree, "file"), []byte(c.name), c.mode))
		site.Commit(t, repo, "bare-user", c.name, tree, c.flags...)
		refused(t, s, repo, c.name, c.why)
	}
	tree := filepath.Join(s.Dir, "all")
	everythingTree(t, tree, "all")
	site.Commit(t, repo, "bare-user", "all", tree)
	refused(t, s, repo, "all", "a bare-user-only repository") // whichever object is looked at first
	site.Commit(t, repo, "bare-user", "good", tree, site.Canonical...)
	s.Push(&site.Build{Repo: repo}, "good")
}

// xattrsTar makes a tar archive with a file of some xattrs, which libostree
// 2022.7 stores in the order of the archive's reader.
func xattrsTar(t *testing.T, path string, xattrs map[string]string) {
	t.Helper()
	f, err := os.Create(path)
	must.OK(t, err)
	defer f.Close()
	w := tar.NewWriter(f)
	records := map[string]string{}
	for name, value := range xattrs {
		records["SCHILY.xattr."+name] = value
	}
	must.OK(t, w.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}))
	must.OK(t, w.WriteHeader(&tar.Header{Name: "./marked", Typeflag: tar.TypeReg, Mode: 0o644, Size: 2, PAXRecords: records}))
	_, err = w.Write([]byte("x\n"))
	must.OK(t, err)
	must.OK(t, w.Close())
}

// Xattrs in the order in which a tar import by libostree 2022.7 leaves them
// arrive in an archive as they are. A bare repository, where the file system
// sorts them, would read back another checksum, and refuses.
func TestUnsortedXattrs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repo, archive := filepath.Join(dir, "build"), filepath.Join(dir, "a.tar")
	xattrsTar(t, archive, map[string]string{"user.a": "1", "user.b": "2", "user.c": "3", "user.d": "4"})
	must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
	commit := must.OSTree(t, "commit", "--repo="+repo, "--branch=os/tar", "--tree=tar="+archive, "--owner-uid=0", "--owner-gid=0")
	if !hasUnsorted(t, repo) {
		t.Skip("this libostree sorts xattrs itself, as 2024.10 and later do")
	}
	for _, to := range []string{"archive", "bare-user"} {
		s := site.NewOf(t, to)
		s.Push(&site.Build{Repo: repo})
		if head := must.OSTree(t, "rev-parse", "--repo="+s.Prod, "os/tar"); head != commit {
			t.Errorf("%s: os/tar is %s", to, head)
		}
	}
	refused(t, site.NewOf(t, "bare"), repo, "os/tar", "not sorted")
}

// A file in a bare repository may have xattrs of empty value: a commit that
// takes files as they are, by --consume, leaves them there and does not count them.
func TestEmptyXattr(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	tree, repo := filepath.Join(s.Dir, "tree"), filepath.Join(s.Dir, "build")
	everythingTree(t, tree, "empty")
	commit := site.Commit(t, repo, "bare", "os/empty", tree, "--consume")
	s.Push(&site.Build{Repo: repo})
	arrivedWhole(t, repo, s.Prod, "os/empty", commit, false)
}

// A bare repository cannot hold an xattr of empty value, which a tar import may
// bring: libostree leaves it out when it reads the file back.
func TestEmptyXattrIntoBare(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repo, archive := filepath.Join(dir, "build"), filepath.Join(dir, "a.tar")
	xattrsTar(t, archive, map[string]string{"user.empty": ""})
	must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
	must.OSTree(t, "commit", "--repo="+repo, "--branch=os/tar", "--tree=tar="+archive, "--owner-uid=0", "--owner-gid=0")
	for _, to := range []string{"archive", "bare-user"} {
		site.NewOf(t, to).Push(&site.Build{Repo: repo})
	}
	refused(t, site.NewOf(t, "bare"), repo, "os/tar", "of empty value")
}

// hasUnsorted tells whether the one file of a repository has unsorted xattrs.
func hasUnsorted(t *testing.T, repo string) bool {
	t.Helper()
	r, err := ostree.OpenRepo(repo)
	must.OK(t, err)
	h, err := r.FileHeader(onlyFile(t, repo, "*.filez"))
	must.OK(t, err)
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
		must.OK(t, err)
		b[len(b)/2] ^= 0x40
		f, err := os.OpenFile(path, os.O_WRONLY, 0) // in place: xattrs stay
		must.OK(t, err)
		_, err = f.Write(b)
		must.OK(t, err)
		must.OK(t, f.Close())
	}
	cut := func(t *testing.T, path string) {
		info, err := os.Stat(path)
		must.OK(t, err)
		must.OK(t, os.Truncate(path, info.Size()-7))
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
		{"gone", "archive", "*.filez", func(t *testing.T, path string) { must.OK(t, os.Remove(path)) }, small, "is not in repository"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := site.New(t)
			tree, repo := filepath.Join(s.Dir, "tree"), filepath.Join(s.Dir, "build")
			content := strings.Repeat(fmt.Sprintln(c.name), c.size/len(c.name)) // no filez above 4 MiB
			if c.size == large {
				content = incompressible(c.size)
			}
			must.OK(t, site.WriteFile(filepath.Join(tree, "folder", "file"), []byte(content), 0o644))
			site.Commit(t, repo, c.mode, "os/x", tree, site.Canonical...)
			files, err := filepath.Glob(filepath.Join(repo, "objects", "*", c.glob))
			if err != nil || len(files) == 0 {
				t.Fatalf("no %s: %v", c.glob, err)
			}
			c.damage(t, files[0])
			e := s.Run("push", "--repo", repo).Must(t, push.ExitFailed)
			s.NoRefs()
			hex := filepath.Base(filepath.Dir(files[0])) + filepath.Base(files[0])[:62]
			if !strings.Contains(e.Stderr, hex) || !strings.Contains(e.Stderr, c.says) || !strings.Contains(e.Stderr, "build") || e.Stdout != "" {
				t.Errorf("it says of %s\n%s", hex, e.Stderr)
			}
			if !strings.Contains(e.Stderr, "check it with: ostree fsck --repo=") {
				t.Errorf("it does not say what to do:\n%s", e.Stderr)
			}
		})
	}
}
