// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/must"
)

// A Build is a repository with one commit.
type Build struct {
	Repo, Ref, Commit string
	Objects           int   // files below objects
	Payload           int64 // bytes of them
}

const (
	bigFiles = 3000
	bigRef   = "os/x86_64/stable"
)

var bigOnce = sync.OnceValues(func() (*Build, error) {
	dir := filepath.Join(folder, "big")
	if err := bigTree(filepath.Join(dir, "tree")); err != nil {
		return nil, err
	}
	return commitTree(filepath.Join(dir, "repo"), bigRef, filepath.Join(dir, "tree"))
})

// Big is a commit of some 3,000 files and 50 MB, of all kinds. Tests share it, and
// do not change it.
func Big(t *testing.T) *Build {
	t.Helper()
	b, err := bigOnce()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Small is a commit of 100 files and 2 MB of its own.
func Small(t *testing.T, ref, seed string) *Build {
	t.Helper()
	dir := t.TempDir()
	err := SmallTree(filepath.Join(dir, "tree"), 100, seed)
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
		content := RandomBytes(random, size)
		if i%3 == 0 && size < 10_000 { // text: compresses
			content = bytes.Repeat([]byte(fmt.Sprintf("line of %d\n", i)), size/12)
		}
		if err := WriteFile(filepath.Join(dir, BigName(i)), content, mode); err != nil {
			return err
		}
	}
	for i := range 50 {
		if err := os.Symlink(fmt.Sprintf("../d%02d/ziel-ü-%d", i, i), filepath.Join(dir, "d01", fmt.Sprintf("link%d", i))); err != nil {
			return err
		}
	}
	deep := filepath.Join(dir, strings.Repeat("deep/", 40), "end")
	if err := WriteFile(deep, []byte("down here\n"), 0o600); err != nil {
		return err
	}
	return os.MkdirAll(filepath.Join(dir, "empty"), 0o750)
}

// BigName is where file i is.
func BigName(i int) string {
	if i%40 == 7 {
		return fmt.Sprintf("d%02d/Größe 大小 %d", i/60, i)
	}
	return fmt.Sprintf("d%02d/s%d/f%d", i/60, i%3, i)
}

// commitTree makes an archive repository with one commit of a folder.
func commitTree(repo, ref, tree string) (*Build, error) {
	for _, args := range [][]string{
		{"init", "--repo=" + repo, "--mode=archive"},
		{"config", "--repo=" + repo, "set", "archive.zlib-level", "1"}, // quicker
	} {
		if _, err := OSTree(args...); err != nil {
			return nil, err
		}
	}
	commit, err := OSTree("commit", "--fsync=false", "--repo="+repo, "--branch="+ref, "--tree=dir="+tree)
	if err != nil {
		return nil, err
	}
	b := &Build{Repo: repo, Ref: ref, Commit: commit}
	err = filepath.WalkDir(filepath.Join(repo, "objects"), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		b.Objects++
		b.Payload += info.Size()
		return nil
	})
	return b, err
}

// sameObjects checks that a repository holds every object of b: metadata byte for byte,
// but that a commit may have more signatures, and files with the same header and content,
// however that was compressed.
func sameObjects(t *testing.T, b *Build, repo string) {
	t.Helper()
	compared := 0
	objects := filepath.Join(b.Repo, "objects")
	err := filepath.WalkDir(objects, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(repo, "objects", strings.TrimPrefix(path, objects)))
		if err == nil && filepath.Ext(path) == ".filez" {
			got, want, err = inflated(got), inflated(want), nil
		}
		if err == nil && filepath.Ext(path) == ".commitmeta" {
			want, err = ostree.MergeCommitMeta(got, want)
		}
		if err == nil && !bytes.Equal(got, want) {
			return fmt.Errorf("%s differs", path)
		}
		compared++
		return err
	})
	if err != nil || compared != b.Objects {
		t.Errorf("compared %d of %d objects: %v", compared, b.Objects, err)
	}
}

// Published checks that a repository names b by its ref, has no other ref, and
// holds all of it.
func Published(t *testing.T, b *Build, repo string) {
	t.Helper()
	if refs := must.OSTree(t, "refs", "--repo="+repo); refs != b.Ref {
		t.Errorf("refs %q, want %q", refs, b.Ref)
	}
	if commit := must.OSTree(t, "rev-parse", "--repo="+repo, b.Ref); commit != b.Commit {
		t.Errorf("%s is %s, want %s", b.Ref, commit, b.Commit)
	}
	sameObjects(t, b, repo)
}

// inflated is a file in archive form, its content inflated. What cannot be inflated stays
// as it is.
func inflated(b []byte) []byte {
	if len(b) < 8 || uint64(len(b)) < 8+uint64(binary.BigEndian.Uint32(b)) {
		return b
	}
	head := 8 + binary.BigEndian.Uint32(b)
	content, err := io.ReadAll(flate.NewReader(bytes.NewReader(b[head:])))
	if err != nil {
		return b
	}
	return slices.Concat(b[:head], content)
}
