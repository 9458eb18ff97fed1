// SPDX-License-Identifier: AGPL-3.0-or-later

package libostree

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/must"
)

// source makes an archive repository with one commit, and its checksum.
func source(t *testing.T) (repo string, commit ostree.Checksum) {
	t.Helper()
	tree := t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "hello"), []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	repo = filepath.Join(t.TempDir(), "src")
	must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
	sum, err := ostree.ParseChecksum(must.OSTree(t, "commit", "--repo="+repo, "-b", "main", tree))
	if err != nil {
		t.Fatal(err)
	}
	return repo, sum
}

func open(t *testing.T, path string) *Repo {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// Importing all of a commit in two transactions makes a repository that
// ostree itself finds whole, and its summary can be written.
func TestImport(t *testing.T) {
	from, commit := source(t)
	for _, mode := range []string{"archive", "bare-user"} {
		t.Run(mode, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "dst")
			must.OK(t, Init(to, mode))
			src, dst := open(t, from), open(t, to)
			must.OK(t, dst.Lock(context.Background(), Shared))
			must.OK(t, dst.Begin())
			for _, n := range objects(t, from) {
				if n.Type != ostree.CommitObject {
					must.OK(t, dst.Import(src, n))
				}
			}
			must.OK(t, dst.Commit())
			must.OK(t, dst.Lock(context.Background(), Exclusive))
			must.OK(t, dst.Begin())
			must.OK(t, dst.Import(src, ostree.Name{Checksum: commit, Type: ostree.CommitObject}))
			must.OK(t, dst.MarkComplete(commit))
			must.OK(t, dst.Commit())
			must.OK(t, dst.Unlock(Exclusive))
			must.OK(t, dst.Unlock(Shared))
			must.OSTree(t, "refs", "--repo="+to, "--create=a/main", commit.String())
			must.OK(t, dst.RegenerateSummary())
			must.OSTree(t, "fsck", "--repo="+to)
			if !strings.Contains(must.OSTree(t, "summary", "--repo="+to, "-v"), "a/main") {
				t.Error("the summary does not list a/main")
			}
		})
	}
}

func objects(t *testing.T, repo string) (names []ostree.Name) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repo, "objects", "*", "*"))
	must.OK(t, err)
	for _, f := range files {
		n, err := ostree.ParseName(filepath.Base(filepath.Dir(f)) + filepath.Base(f))
		must.OK(t, err)
		names = append(names, n)
	}
	return names
}

// A lock held elsewhere is ErrLocked after the repository's own time, and the
// context's error when that ends first.
func TestLockTimesOut(t *testing.T) {
	repo, _ := source(t)
	must.OSTree(t, "config", "--repo="+repo, "set", "core.lock-timeout-secs", "1")
	holder, waiter := open(t, repo), open(t, repo)
	must.OK(t, holder.Lock(context.Background(), Exclusive))
	if err := waiter.Lock(context.Background(), Shared); !errors.Is(err, ErrLocked) {
		t.Errorf("lock held elsewhere: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := waiter.Lock(ctx, Shared); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("context over: %v", err)
	}
	must.OK(t, holder.Unlock(Exclusive))
	must.OK(t, waiter.Lock(context.Background(), Shared))
}

// Errors speak of the repository, not of a place in a source file.
func TestOpenNoRepository(t *testing.T) {
	_, err := Open(t.TempDir())
	if err == nil || strings.Contains(err.Error(), ".go:") {
		t.Errorf("error %v", err)
	}
}
