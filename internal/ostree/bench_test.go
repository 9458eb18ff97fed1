// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// benchObjects are files of the Go distribution as filez, in memory.
func benchObjects(b *testing.B) (names []Name, objects [][]byte, total int64) {
	b.Helper()
	root := filepath.Join(os.Getenv("GOROOT"), "src")
	if os.Getenv("GOROOT") == "" {
		root = "/usr/share"
	}
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if content, err := os.ReadFile(path); err == nil && len(content) < 1<<20 {
			n, o := soundFile(string(content)).bytes()
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

// BenchmarkConvert turns the files of a bare repository into filez.
func BenchmarkConvert(b *testing.B) {
	r := newRepo(b, ModeBare)
	var files []Name
	var total int64
	for _, n := range objects(b, r) {
		if n.Type == File {
			info, err := os.Lstat(r.objectPath(n))
			must(b, err)
			files, total = append(files, n), total+info.Size()
		}
	}
	b.SetBytes(total)
	for b.Loop() {
		for _, n := range files {
			if _, err := r.Object(n); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkWalk walks a small repository.
func BenchmarkWalk(b *testing.B) {
	r := newRepo(b, ModeArchive)
	c, err := r.Ref("os/test")
	must(b, err)
	for b.Loop() {
		if err := r.Walk(context.Background(), []Checksum{c}, WalkOptions{}, func(Name) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
