// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/test/must"
)

// refChanges are what other programs, and people, do to refs meanwhile.
var refChanges = []struct {
	name string
	do   func(t *testing.T, repo, heads string, commits []string)
}{
	{"nothing", func(*testing.T, string, string, []string) {}},
	{"a ref is created", func(t *testing.T, repo, _ string, commits []string) {
		ostree(t, "refs", "--repo="+repo, "--create=os/x86_64/new", commits[0])
	}},
	{"a ref is moved", func(t *testing.T, repo, _ string, commits []string) {
		ostree(t, "refs", "--repo="+repo, "--force", "--create=os/x86_64/a", commits[1])
	}},
	{"a ref is written in place", func(t *testing.T, _, heads string, commits []string) {
		must.OK(t, os.WriteFile(filepath.Join(heads, "os/x86_64/b"), []byte(commits[1]+"\n"), 0o644))
	}},
	{"it is written back", func(t *testing.T, _, heads string, commits []string) {
		must.OK(t, os.WriteFile(filepath.Join(heads, "os/x86_64/b"), []byte(commits[0]+"\n"), 0o644))
	}},
	{"and given the old times", func(t *testing.T, _, heads string, commits []string) {
		path := filepath.Join(heads, "os/x86_64/b")
		info, err := os.Stat(path)
		must.OK(t, err)
		must.OK(t, os.WriteFile(path, []byte(commits[1]+"\n"), 0o644))
		must.OK(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	}},
	{"refs are deleted", func(t *testing.T, repo, _ string, _ []string) {
		ostree(t, "refs", "--repo="+repo, "--delete", "os/aarch64")
	}},
	{"a folder is moved", func(t *testing.T, _, heads string, _ []string) {
		must.OK(t, os.Rename(filepath.Join(heads, "os/x86_64"), filepath.Join(heads, "os/x86-64")))
	}},
	{"another one takes its place", func(t *testing.T, _, heads string, _ []string) {
		must.OK(t, os.Rename(filepath.Join(heads, "app"), filepath.Join(heads, "os/x86_64")))
	}},
	{"a folder becomes a ref", func(t *testing.T, _, heads string, commits []string) {
		must.OK(t, os.RemoveAll(filepath.Join(heads, "os/x86_64")))
		must.OK(t, os.WriteFile(filepath.Join(heads, "os/x86_64"), []byte(commits[1]+"\n"), 0o644))
	}},
	{"and an alias of a folder", func(t *testing.T, _, heads string, _ []string) {
		must.OK(t, os.Remove(filepath.Join(heads, "os/x86_64")))
		must.OK(t, os.Symlink("x86-64", filepath.Join(heads, "os/x86_64")))
	}},
	{"and nothing", func(t *testing.T, _, heads string, _ []string) {
		must.OK(t, os.Remove(filepath.Join(heads, "os/x86_64")))
	}},
	{"an alias is created", func(t *testing.T, repo, _ string, _ []string) {
		ostree(t, "refs", "--repo="+repo, "--create=top", "--alias", "os/x86-64/a")
	}},
	{"what it stands for is moved", func(t *testing.T, repo, _ string, commits []string) {
		ostree(t, "refs", "--repo="+repo, "--force", "--create=os/x86-64/a", commits[0])
	}},
	{"it stands for another one", func(t *testing.T, repo, _ string, _ []string) {
		ostree(t, "refs", "--repo="+repo, "--force", "--create=top", "--alias", "os/x86-64/b")
	}},
	{"all go", func(t *testing.T, _, heads string, _ []string) { must.OK(t, os.RemoveAll(heads)) }},
	{"all come again", func(t *testing.T, repo, heads string, commits []string) {
		must.OK(t, os.MkdirAll(heads, 0o755))
		ostree(t, "refs", "--repo="+repo, "--create=os/x86_64/a", commits[0])
	}},
}

// TestRefTreeChanges pins that a list which keeps what it has read is that of one which
// reads all, whatever another program changed in between: with time between the changes,
// where nearly all is kept, and without.
func TestRefTreeChanges(t *testing.T) {
	for _, apart := range []bool{true, false} {
		r := newRepo(t, ModeArchive)
		var commits []string
		for _, subject := range []string{"one", "two"} {
			commits = append(commits, ostree(t, "commit", "--repo="+r.path, "-b", "os/x86_64/a", "-s", subject, "--tree=ref=os/test"))
		}
		for _, ref := range []string{"os/x86_64/b", "os/x86_64-b", "os/aarch64/a", "os/aarch64/b", "app/a", "app/a.b/c"} {
			ostree(t, "refs", "--repo="+r.path, "--create="+ref, commits[0])
		}
		if apart {
			r.listed.now = func() time.Time { return time.Now().Add(time.Hour) }
		}
		for _, change := range refChanges {
			readListed(t, r)
			if apart {
				tick(t, r.path)
			}
			change.do(t, r.path, r.refPath(""), commits)
			if got, want := readListed(t, r), readListed(t, openedRepo(t, r.path)); !maps.Equal(got, want) {
				t.Errorf("%s, apart %v: listed %v, there is %v", change.name, apart, got, want)
			}
		}
	}
}

// readListed lists refs with their commits.
func readListed(t *testing.T, r *Repo) map[string]Checksum {
	t.Helper()
	names, err := r.ListedRefs()
	must.OK(t, err)
	if !slices.IsSortedFunc(names, func(a, b RefName) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("not sorted: %v", names)
	}
	refs := map[string]Checksum{}
	for _, n := range names {
		c, err := r.OwnRef(n)
		must.OK(t, err)
		refs[n.Name] = c
	}
	return refs
}

// tick waits until a change has another time than those before.
func tick(t *testing.T, folder string) {
	t.Helper()
	path := filepath.Join(folder, "tick")
	now := func() stamp {
		must.OK(t, os.WriteFile(path, nil, 0o644))
		is, err := stampOf(unix.AT_FDCWD, path)
		must.OK(t, err)
		return is
	}
	before := now()
	must.Wait(t, "the file system's clock", func() bool { return now() != before })
}

// TestRefTreeKeeps pins what is read again: a folder and a ref that changed within the
// last moments, and no other.
func TestRefTreeKeeps(t *testing.T) {
	r := newRepo(t, ModeArchive)
	heads, err := os.Open(r.refPath(""))
	must.OK(t, err)
	defer heads.Close() //nolint:errcheck // nothing was written to it
	if deviceOf(heads) == 0 {
		t.Skip("the file system of " + os.TempDir() + " is none of which folders are kept")
	}
	changed, err := stampOf(int(heads.Fd()), "os")
	must.OK(t, err)
	for _, c := range []struct {
		later time.Duration
		kept  bool
	}{{-time.Hour, false}, {0, false}, {time.Second, false}, {time.Hour, true}} {
		r.listed.now = func() time.Time { return time.Unix(changed.changed.Unix()).Add(c.later) }
		readListed(t, r)
		folder := r.listed.root.entries[0].folder
		first := &folder.entries[0]
		if kept := first.value.Load() != nil; kept != c.kept {
			t.Errorf("%s after a change the ref is kept: %v", c.later, kept)
		}
		readListed(t, r)
		if kept := first == &folder.entries[0]; kept != c.kept {
			t.Errorf("%s after a change the folder is kept: %v", c.later, kept)
		}
	}
}
