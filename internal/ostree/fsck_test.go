// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	build "github.com/lirios/ostree-upload/test/objects"
)

// stricter are the hostile cases that ostree fsck 2022.7 lets pass, and we do
// not: it looks only at checksums and, of metadata, at some of the structure.
var stricter = []string{
	"commit: collection binding of another type",
	"commit: collection binding twice",
	"commit: key not UTF-8",
	"commit: metadata's offset outside",
	"commit: padding",
	"commit: ref binding of another type",
	"commit: ref binding twice",
	"commit: related",
	"commit: subject not UTF-8",
	"commit: subject with NUL",
	"commit: variant nested deep",
	"commit: variant of a deep type",
	"commit: variant of no type",
	"commit: variant of the wrong size",
	"commit: variant of two types",
	"commit: variant's boolean",

	"commitmeta: a tail",
	"commitmeta: cut",
	"commitmeta: empty key",
	"commitmeta: garbage",
	"commitmeta: key not UTF-8",
	"commitmeta: key twice",
	"commitmeta: too large",
	"commitmeta: variant of no type",

	"dirmeta: a tail",
	"dirmeta: xattr of nothing",
	"dirmeta: xattr twice",
	"dirmeta: xattr with two NULs",
	"dirmeta: xattr without NUL",
	"dirmeta: xattr without a name",

	"dirtree: NUL",
	"dirtree: directories unsorted",
	"dirtree: directory twice",
	"dirtree: directory's empty name",
	"dirtree: empty name",
	"dirtree: file and directory",
	"dirtree: sorted as signed bytes",
	"dirtree: sorted without case",
	"dirtree: twice",
	"dirtree: unsorted",

	"file: empty as a stored block",
	"file: empty with a tail",
	"file: header's offset outside",
	"file: padding",
	"file: size huge",
	"file: size in little endian",
	"file: size over the limit",
	"file: size too large",
	"file: size too small",
	"file: size zero",
	"file: symlink with a size",
	"file: symlink with a stream",
	"file: symlink's xattr twice",
	"file: target empty",
	"file: target too long",
	"file: trailing byte",
	"file: two streams",
	"file: xattr names huge",
	"file: xattr of nothing",
	"file: xattr twice",
	"file: xattr with two NULs",
	"file: xattr without NUL",
	"file: xattr without a name",

	"other type: dirmeta as dirtree",
	"other type: file as dirtree",
}

// TestFsckAgrees compares our verdicts with ostree fsck: what we accept, it
// accepts; what it refuses, we refuse. TestHostile and TestSound pin ours. Where
// we are stricter the case is listed above, and nowhere else.
func TestFsckAgrees(t *testing.T) {
	empty := t.TempDir()
	ostree(t, "init", "--repo="+empty, "--mode=archive")
	var lock sync.Mutex
	var passed []string
	t.Run("cases", func(t *testing.T) {
		for _, s := range build.Sounds() {
			t.Run(s.Case, func(t *testing.T) {
				t.Parallel()
				repo := repoWith(t, empty, s.Object, s.Case)
				ostree(t, "fsck", "--repo="+repo)
				pullUntrusted(t, repo)
			})
		}
		for _, h := range build.Hostiles() {
			t.Run(h.Case, func(t *testing.T) {
				t.Parallel()
				if !fsckPasses(t, repoWith(t, empty, h.Object, h.Case)) {
					return
				}
				lock.Lock()
				defer lock.Unlock()
				passed = append(passed, h.Case)
			})
		}
	})
	slices.Sort(passed)
	want := slices.Sorted(slices.Values(stricter))
	if !slices.Equal(passed, want) {
		t.Errorf("ostree fsck lets pass:\n%s\nbut the list of those has:\n%s", strings.Join(passed, "\n"), strings.Join(want, "\n"))
	}
}

// repoWith makes an archive repository with a commit that needs o, and whatever
// else it needs, under the ref test.
func repoWith(t *testing.T, empty string, o build.Object, salt string) string {
	t.Helper()
	repo := filepath.Join(t.TempDir(), "repo")
	must.OK(t, os.CopyFS(repo, os.DirFS(empty)))
	commit, others := build.CommitOf(o, salt)
	for _, o := range append(others, o) {
		writeFile(t, filepath.Join(repo, "objects", o.Path()), o.Bytes)
	}
	writeFile(t, filepath.Join(repo, "refs/heads/test"), []byte(hex.EncodeToString(commit[:])+"\n"))
	return repo
}

// fsckPasses runs ostree fsck on a repository that may be damaged.
func fsckPasses(t *testing.T, repo string) bool {
	t.Helper()
	err := exec.Command("ostree", "fsck", "--repo="+repo).Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return err == nil
}

// pullUntrusted pins that a client can take what we accept, and keep it in
// another form.
func pullUntrusted(t *testing.T, repo string) {
	t.Helper()
	into := filepath.Join(t.TempDir(), "client")
	ostree(t, "init", "--repo="+into, "--mode=bare-user")
	ostree(t, "pull-local", "--untrusted", "--repo="+into, repo, "test")
	ostree(t, "fsck", "--repo="+into)
}
