// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// smallTree makes n files of random bytes, some 20 kB each, in folders of 25.
func smallTree(dir string, n int, seed string) error {
	random := rand.NewChaCha8(sha256.Sum256([]byte(seed)))
	for i := range n {
		path := filepath.Join(dir, fmt.Sprintf("d%d", i/25), fmt.Sprintf("f%d", i))
		if err := writeFile(path, randomBytes(random, 20_000+i), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// randomBytes do not compress.
func randomBytes(random *rand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	random.Read(b)
	return b
}

// writeFile makes folders as needed, with modes that no umask changes.
func writeFile(path string, content []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, content, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

const (
	bigFiles = 3000
	bigRef   = "os/x86_64/stable"
)

// A build is a repository with one commit.
type build struct {
	repo, ref, commit string
	objects           int   // files below objects
	payload           int64 // bytes of them
}

// bigFolder holds what big made, "" before.
var bigFolder string

// bigOnce is a commit of some 3,000 files and 50 MB that tests share; they must
// not change it.
var bigOnce = sync.OnceValues(func() (*build, error) {
	dir, err := os.MkdirTemp("", "ostree-upload-test")
	if err != nil {
		return nil, err
	}
	bigFolder = dir
	if err := bigTree(filepath.Join(dir, "tree")); err != nil {
		return nil, err
	}
	return commitTree(filepath.Join(dir, "repo"), bigRef, filepath.Join(dir, "tree"))
})

func big(t *testing.T) *build {
	t.Helper()
	b, err := bigOnce()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// small is a commit of 100 files and 2 MB of its own.
func small(t *testing.T, ref, seed string) *build {
	t.Helper()
	dir := t.TempDir()
	err := smallTree(filepath.Join(dir, "tree"), 100, seed)
	if err != nil {
		t.Fatal(err)
	}
	b, err := commitTree(filepath.Join(dir, "repo"), ref, filepath.Join(dir, "tree"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// bigTree has all that a file system for OSTree has: many small files, some
// large ones that travel alone, links, empty files, deep folders, odd names.
func bigTree(dir string) error {
	random := rand.NewChaCha8([32]byte{7})
	for i := range bigFiles {
		size, mode := 200+i*2, fs.FileMode(0o644)
		switch {
		case i%500 == 499:
			size = 5<<20 + i // above what a pack may hold
		case i%50 == 0:
			size = 200_000 + i
		case i%97 == 0:
			size = 0
		}
		if i%10 == 0 {
			mode = 0o755
		}
		content := randomBytes(random, size)
		if i%3 == 0 && size < 10_000 { // text: compresses
			content = bytes.Repeat([]byte(fmt.Sprintf("line of %d\n", i)), size/12)
		}
		if err := writeFile(filepath.Join(dir, bigName(i)), content, mode); err != nil {
			return err
		}
	}
	for i := range 50 {
		if err := os.Symlink(fmt.Sprintf("../d%02d/ziel-ü-%d", i, i), filepath.Join(dir, "d01", fmt.Sprintf("link%d", i))); err != nil {
			return err
		}
	}
	deep := filepath.Join(dir, strings.Repeat("deep/", 40), "end")
	if err := writeFile(deep, []byte("down here\n"), 0o600); err != nil {
		return err
	}
	return os.MkdirAll(filepath.Join(dir, "empty"), 0o750)
}

// bigName is where file i is.
func bigName(i int) string {
	if i%40 == 7 {
		return fmt.Sprintf("d%02d/Größe 大小 %d", i/60, i)
	}
	return fmt.Sprintf("d%02d/s%d/f%d", i/60, i%3, i)
}

// commitTree makes an archive repository with one commit of a folder.
func commitTree(repo, ref, tree string) (*build, error) {
	for _, args := range [][]string{
		{"init", "--repo=" + repo, "--mode=archive"},
		{"config", "--repo=" + repo, "set", "archive.zlib-level", "1"}, // quicker
	} {
		if out, err := exec.Command("ostree", args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ostree %s: %w\n%s", args[0], err, out)
		}
	}
	out, err := exec.Command("ostree", "commit", "--fsync=false", "--repo="+repo, "--branch="+ref, "--tree=dir="+tree).Output()
	if err != nil {
		return nil, fmt.Errorf("ostree commit: %w", err)
	}
	b := &build{repo: repo, ref: ref, commit: strings.TrimSpace(string(out))}
	err = filepath.WalkDir(filepath.Join(repo, "objects"), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		b.objects++
		b.payload += info.Size()
		return nil
	})
	return b, err
}

// runOSTree runs ostree and returns what it prints.
func runOSTree(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ostree", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ostree %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// sameObjects checks that a repository holds every object of b, byte for byte.
func sameObjects(t *testing.T, b *build, repo string) {
	t.Helper()
	compared := 0
	objects := filepath.Join(b.repo, "objects")
	err := filepath.WalkDir(objects, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(repo, "objects", strings.TrimPrefix(path, objects)))
		if err == nil && !bytes.Equal(got, want) {
			return fmt.Errorf("%s differs", path)
		}
		compared++
		return err
	})
	if err != nil || compared != b.objects {
		t.Errorf("compared %d of %d objects: %v", compared, b.objects, err)
	}
}

// published checks that a repository names b by its ref, has no other ref, and
// holds all of it.
func published(t *testing.T, b *build, repo string) {
	t.Helper()
	if refs := runOSTree(t, "refs", "--repo="+repo); refs != b.ref {
		t.Errorf("refs %q, want %q", refs, b.ref)
	}
	if commit := runOSTree(t, "rev-parse", "--repo="+repo, b.ref); commit != b.commit {
		t.Errorf("%s is %s, want %s", b.ref, commit, b.commit)
	}
	sameObjects(t, b, repo)
}
