// SPDX-License-Identifier: AGPL-3.0-or-later

package fsck

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/must"
)

// inBucket is the mode of an archive that is put into a bucket before it is checked.
const inBucket = "bucket"

// made is a repository of a mode with two commits on os/x and one on os/y.
func made(t *testing.T, mode string) (repo string) {
	t.Helper()
	dir := t.TempDir()
	repo = filepath.Join(dir, "repo")
	must.OSTree(t, "init", "--repo="+repo, "--mode="+strings.Replace(mode, inBucket, "archive", 1))
	for i, ref := range []string{"os/x", "os/x", "os/y"} {
		tree := filepath.Join(dir, fmt.Sprint("tree", i))
		for path, content := range map[string]string{
			"usr/bin/program": "program " + ref, "usr/share/doc": strings.Repeat("in all ", 100), "etc/state": fmt.Sprint("state ", i),
		} {
			must.OK(t, os.MkdirAll(filepath.Dir(filepath.Join(tree, path)), 0o755))
			must.OK(t, os.WriteFile(filepath.Join(tree, path), []byte(content), 0o644))
		}
		must.OK(t, os.Symlink("program", filepath.Join(tree, "usr/bin/link")))
		must.OSTree(t, "commit", "--repo="+repo, "--branch="+ref, "--canonical-permissions", "--tree=dir="+tree)
	}
	return repo
}

// run checks a repository.
func run(t *testing.T, mode, path string) (findings, notes []string) {
	t.Helper()
	c := checkOf(t, mode, path)
	findings, notes, err := c.Run(t.Context())
	must.OK(t, err)
	if p := &c.Progress; p.Objects.Load() != p.Total.Load() || p.Bytes.Load() == 0 {
		t.Errorf("%d of %d objects verified, %d bytes", p.Objects.Load(), p.Total.Load(), p.Bytes.Load())
	}
	return findings, notes
}

// checkOf is the check of a repository as it is now.
func checkOf(t *testing.T, mode, path string) *Check {
	t.Helper()
	if mode == inBucket {
		return putInto(t, path).check()
	}
	repo, err := ostree.OpenRepo(path)
	must.OK(t, err)
	return New(repo, OnDisk(repo))
}

// file is the file of what a path of a commit is, in the repository.
func file(t *testing.T, path, commit, in string) string {
	t.Helper()
	repo, err := ostree.OpenRepo(path)
	must.OK(t, err)
	sum, err := ostree.ParseChecksum(must.OSTree(t, "rev-parse", "--repo="+path, commit))
	must.OK(t, err)
	found := ""
	must.OK(t, repo.Files(t.Context(), sum, nil, func(at string, n ostree.Name) error {
		if at == in {
			found = repo.ObjectPath(n)
		}
		return nil
	}))
	if found == "" {
		t.Fatalf("%s has no %s", commit, in)
	}
	return found
}

// metadata is the file of a commit's own object, or of its root.
func metadata(t *testing.T, path, commit, kind string) string {
	t.Helper()
	sum := must.OSTree(t, "rev-parse", "--repo="+path, commit)
	if kind != "commit" {
		for _, line := range strings.Split(must.OSTree(t, "ls", "-d", "-C", "--repo="+path, commit), "\n") {
			fields := strings.Fields(line) // mode, owner, group, size, dirtree, dirmeta, path
			sum = fields[4]
			if kind == "dirmeta" {
				sum = fields[5]
			}
		}
	}
	return filepath.Join(path, "objects", sum[:2], sum[2:]+"."+kind)
}

// rot changes a byte in place.
func rot(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	must.OK(t, err)
	b[len(b)/2] ^= 0x10
	must.OK(t, os.WriteFile(path, b, 0))
}

// Each fault is found in each mode, once, with the ref, commit and path that it belongs
// to. What is sound is not.
func TestFindings(t *testing.T) {
	for _, mode := range []string{"archive", "bare", "bare-user", "bare-user-only", inBucket} {
		if mode == "bare" && os.Geteuid() != 0 {
			continue
		}
		for _, c := range []struct {
			name, finding string
			do            func(t *testing.T, repo string)
		}{
			{"nothing", "", func(*testing.T, string) {}},
			{"a byte", "/usr/share/doc: object ", func(t *testing.T, repo string) { rot(t, file(t, repo, "os/x", "/usr/share/doc")) }},
			{"cut", "/usr/share/doc: object ", func(t *testing.T, repo string) { must.OK(t, os.Truncate(file(t, repo, "os/y", "/usr/share/doc"), 20)) }},
			{"empty", "/usr/share/doc: object ", func(t *testing.T, repo string) { must.OK(t, os.Truncate(file(t, repo, "os/y", "/usr/share/doc"), 0)) }},
			{"longer", "/usr/bin/program: object ", func(t *testing.T, repo string) {
				f, err := os.OpenFile(file(t, repo, "os/y", "/usr/bin/program"), os.O_APPEND|os.O_WRONLY, 0)
				must.OK(t, err)
				_, err = f.WriteString("more")
				must.OK(t, err)
				must.OK(t, f.Close())
			}},
			{"gone", "/usr/bin/program: object ", func(t *testing.T, repo string) { must.OK(t, os.Remove(file(t, repo, "os/y", "/usr/bin/program"))) }},
			{"of an older commit", "/etc/state: object ", func(t *testing.T, repo string) { rot(t, file(t, repo, "os/x^", "/etc/state")) }},
			{"a folder", ", /: object ", func(t *testing.T, repo string) { rot(t, metadata(t, repo, "os/x", "dirtree")) }},
			{"a folder's mode", ", /: object ", func(t *testing.T, repo string) { must.OK(t, os.Remove(metadata(t, repo, "os/x", "dirmeta"))) }},
			{"a commit", "ref os/y, commit ", func(t *testing.T, repo string) { rot(t, metadata(t, repo, "os/y", "commit")) }},
			{"a commit gone", "ref os/y, commit ", func(t *testing.T, repo string) { must.OK(t, os.Remove(metadata(t, repo, "os/y", "commit"))) }},
			{"a ref", "os/y of repository ", func(t *testing.T, repo string) {
				must.OK(t, os.WriteFile(filepath.Join(repo, "refs/heads/os/y"), []byte("spoilt"), 0o644))
			}},
			{"detached metadata", ".commitmeta: it is not", func(t *testing.T, repo string) {
				path := metadata(t, repo, "os/y", "commit")
				must.OK(t, os.WriteFile(path+"meta", []byte("spoilt"), 0o644))
			}},
			{"marked as incomplete", "os/y: commit", func(t *testing.T, repo string) {
				sum := must.OSTree(t, "rev-parse", "--repo="+repo, "os/y")
				must.OK(t, os.MkdirAll(filepath.Join(repo, "state"), 0o755))
				must.OK(t, os.WriteFile(filepath.Join(repo, "state", sum+".commitpartial"), nil, 0o644))
			}},
		} {
			if mode == inBucket && c.name == "marked as incomplete" {
				continue // there are no such marks
			}
			t.Run(mode+"/"+c.name, func(t *testing.T) {
				repo := made(t, mode)
				c.do(t, repo)
				findings, _ := run(t, mode, repo)
				switch {
				case c.finding == "" && len(findings) > 0, c.finding != "" && (len(findings) == 0 || !strings.Contains(findings[0], c.finding)):
					t.Errorf("findings %q", findings)
				case len(findings) > 1 && c.name != "a ref":
					t.Errorf("%d findings: %q", len(findings), findings)
				}
			})
		}
	}
}

// Attributes that are part of an object count, where the mode has them.
func TestAttributes(t *testing.T) {
	repo := made(t, "bare-user")
	must.OK(t, unix.Setxattr(file(t, repo, "os/x", "/etc/state"), "user.ostreemeta", make([]byte, 12), 0))
	if findings, _ := run(t, "bare-user", repo); len(findings) != 1 || !strings.Contains(findings[0], "/etc/state") {
		t.Errorf("findings %q", findings)
	}
}

// What no ref needs is a note, and a parent that is not there is nothing.
func TestNotes(t *testing.T) {
	repo := made(t, "archive")
	rot(t, file(t, repo, "os/y", "/etc/state"))
	must.OSTree(t, "refs", "--repo="+repo, "--delete", "os/y")
	must.OK(t, os.Remove(metadata(t, repo, "os/x^", "commit")))
	findings, notes := run(t, "archive", repo)
	if len(findings) > 0 || len(notes) != 1 || !strings.Contains(notes[0], "no ref needs it, so that a prune removes it") {
		t.Errorf("findings %q, notes %q", findings, notes)
	}
}

// What was mended or pruned while the check ran is no finding.
func TestMeanwhile(t *testing.T) {
	path := made(t, "archive")
	good := file(t, path, "os/x", "/usr/share/doc")
	kept, err := os.ReadFile(good)
	must.OK(t, err)
	rot(t, good)
	must.OK(t, os.Remove(file(t, path, "os/y", "/etc/state")))
	c := checkOf(t, "archive", path)
	must.OK(t, c.verifyAll(t.Context()))
	must.OK(t, c.refs(t.Context()))
	if len(c.faults) != 2 {
		t.Fatalf("faults %v", c.faults)
	}
	must.OK(t, os.WriteFile(good, kept, 0o644))
	must.OSTree(t, "refs", "--repo="+path, "--delete", "os/y")
	must.OSTree(t, "refs", "--repo="+path, "--create=os/y", "os/x")
	must.OSTree(t, "prune", "--repo="+path, "--refs-only")
	findings, notes, err := c.tell(t.Context())
	if err != nil || len(findings) > 0 || slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, "more") }) {
		t.Errorf("findings %q, notes %q, %v", findings, notes, err)
	}
}
