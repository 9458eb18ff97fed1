// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/test/must"
)

// goSource is a folder of some ten thousand real files.
func goSource(b *testing.B) string {
	b.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	must.OK(b, err)
	return filepath.Join(strings.TrimSpace(string(out)), "src")
}

// benchObjects are files of the Go distribution as filez, in memory.
func benchObjects(b *testing.B) (names []Name, objects [][]byte, total int64) {
	b.Helper()
	root := goSource(b)
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if content, err := os.ReadFile(path); err == nil && len(content) < 1<<20 {
			n, o := soundFile(b, string(content))
			names, objects = append(names, n), append(objects, o)
			total += int64(len(content))
		}
		if len(names) == 5000 {
			return fs.SkipAll
		}
		return nil
	})
	if len(names) == 0 {
		b.Fatalf("no files below %s", root)
	}
	return names, objects, total
}

// BenchmarkVerify verifies real files; bytes are inflated ones.
func BenchmarkVerify(b *testing.B) {
	names, objects, total := benchObjects(b)
	b.SetBytes(total)
	v := NewVerifier(0)
	for b.Loop() {
		for i, o := range objects {
			if _, err := v.Verify(names[i], bytes.NewReader(o)); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkVerifyParallel does the same on all cores, each with a Verifier of
// its own: the time of one pass should fall with their number.
func BenchmarkVerifyParallel(b *testing.B) {
	names, objects, total := benchObjects(b)
	b.SetBytes(total / int64(len(objects)))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		v := NewVerifier(0)
		for i := 0; pb.Next(); i++ {
			k := i % len(objects)
			if _, err := v.Verify(names[k], bytes.NewReader(objects[k])); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkVerifyRepository lists and verifies all objects of a repository on
// disk, as a server does after an unclean stop, with a worker for each core.
// Bytes are inflated ones. Beside it stands the time in which ostree fsck does
// the same, and how many times ours that is.
func BenchmarkVerifyRepository(b *testing.B) {
	repo := filepath.Join(b.TempDir(), "repo")
	ostree(b, "init", "--repo="+repo, "--mode=archive")
	commitTree(b, repo, ModeArchive, goSource(b), "go")
	r := openedRepo(b, repo)
	b.SetBytes(verifyAll(b, r)) // now all of it is in the page cache, for both
	start := time.Now()
	ostree(b, "fsck", "--repo="+repo)
	fsck := time.Since(start).Seconds()
	for b.Loop() {
		verifyAll(b, r)
	}
	ours := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(fsck, "fsck-s/op")
	b.ReportMetric(fsck/ours, "fsck/ours")
}

// verifyAll returns how many bytes all objects inflate to.
func verifyAll(b *testing.B, r *Repo) int64 {
	names := make(chan Name, 256)
	var total atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			v := NewVerifier(0)
			for n := range names {
				inflated, err := verifyFile(v, r, n)
				if err != nil {
					b.Error(err)
				}
				total.Add(inflated)
			}
		})
	}
	for _, n := range objects(b, r) {
		names <- n
	}
	close(names)
	workers.Wait()
	return total.Load()
}

func verifyFile(v *Verifier, r *Repo, n Name) (int64, error) {
	f, err := os.Open(r.objectPath(n))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return v.Verify(n, f)
}

// BenchmarkConvert turns the files of a bare repository into filez.
func BenchmarkConvert(b *testing.B) {
	r := newRepo(b, ModeBare)
	var files []Name
	var total int64
	for _, n := range objects(b, r) {
		if n.Type == File {
			info, err := os.Lstat(r.objectPath(n))
			must.OK(b, err)
			files, total = append(files, n), total+info.Size()
		}
	}
	b.SetBytes(total)
	for b.Loop() {
		for _, n := range files {
			if _, err := r.Object(b.Context(), n); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkWalk walks a small repository.
func BenchmarkWalk(b *testing.B) {
	r := newRepo(b, ModeArchive)
	c, err := r.Ref("os/test")
	must.OK(b, err)
	for b.Loop() {
		if err := r.Walk(context.Background(), []Checksum{c}, WalkOptions{}, func(Name) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
