// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// ObjectFiles are the sizes of a repository's objects; none if it is not there.
func ObjectFiles(t *testing.T, repo string) map[string]int64 {
	t.Helper()
	sizes := map[string]int64{}
	paths, err := filepath.Glob(filepath.Join(repo, "objects", "*", "*"))
	must.OK(t, err)
	for _, path := range paths {
		st, err := os.Stat(path)
		must.OK(t, err)
		sizes[path] = st.Size()
	}
	return sizes
}

// Chain commits n states of a small tree to a branch, and returns the commits,
// the oldest first.
func Chain(t *testing.T, repo, ref string, n int) (commits []string) {
	t.Helper()
	tree := filepath.Join(t.TempDir(), "tree")
	must.OK(t, WriteFile(filepath.Join(tree, "same", "file"), []byte("in all of them"), 0o644))
	flags := append([]string{"--no-bindings"}, Canonical...) // so that any ref may name them
	for i := range n {
		must.OK(t, WriteFile(filepath.Join(tree, "state"), []byte(fmt.Sprintln(ref, i)), 0o644))
		commits = append(commits, Commit(t, repo, "archive", ref, tree, flags...))
	}
	return commits
}

// Branch points a ref of a repository to a commit.
func Branch(t *testing.T, repo, ref, commit string) {
	t.Helper()
	must.OSTree(t, "refs", "--repo="+repo, "--force", "--create="+ref, commit)
}

// Canonical makes a commit of what a bare-user-only repository can hold.
var Canonical = []string{"--canonical-permissions", "--no-xattrs"}

// Commit commits a folder to a branch of a repository of a mode, which it makes if
// needed, and returns the commit.
func Commit(t *testing.T, repo, mode, ref, tree string, flags ...string) string {
	t.Helper()
	if _, err := os.Stat(repo); err != nil {
		must.OSTree(t, "init", "--repo="+repo, "--mode="+mode)
	}
	args := []string{"commit", "--fsync=false", "--repo=" + repo, "--branch=" + ref, "--tree=dir=" + tree}
	return must.OSTree(t, append(args, flags...)...)
}

// OSTree is must.OSTree for goroutines that must not end the test.
func OSTree(args ...string) (string, error) {
	out, err := exec.Command("ostree", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ostree %s: %w\n%s", args[0], err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// DummySign signs, or with --verify verifies, by libostree's other signature API.
func DummySign(t *testing.T, repo, commit, key string, flags ...string) {
	t.Helper()
	args := append([]string{"sign", "--repo=" + repo, "--sign-type=dummy"}, flags...)
	cmd := exec.Command("ostree", append(args, commit, key)...)
	cmd.Env = append(os.Environ(), "OSTREE_DUMMY_SIGN_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ostree sign: %v\n%s", err, out)
	}
}
