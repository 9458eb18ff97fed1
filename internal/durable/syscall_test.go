// SPDX-License-Identifier: AGPL-3.0-or-later

package durable

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// traced are the functions that sync a folder, called in an empty folder, and the
// system calls that they make there: the folder is open from before the change
// until after its fsync. A temporary name is "temp".
var traced = map[string]struct {
	call func(dir string) error
	want []string
}{
	"Create": {
		func(dir string) error { return Create(dir+"/file", func(string) error { return nil }) },
		[]string{"openat .", "openat temp", "fsync temp", "close temp", "linkat temp file", "unlinkat temp", "fsync .", "close ."},
	},
	"Replace": {
		func(dir string) error {
			return Replace(dir+"/file", func(f *os.File) error { _, err := f.WriteString("x"); return err })
		},
		[]string{"openat .", "openat temp", "write temp", "fsync temp", "close temp", "renameat temp file", "unlinkat temp", "unlinkat temp", "fsync .", "close ."},
	},
	"Remove": {
		func(dir string) error { return Remove(dir + "/old") },
		[]string{"openat .", "unlinkat old", "fsync .", "close ."},
	},
	"Rename": {
		func(dir string) error { return Rename(dir+"/old", dir+"/file") },
		[]string{"openat .", "renameat old file", "fsync .", "close ."},
	},
	"MakeFolder": {
		func(dir string) error { return MakeFolder(dir+"/a/b", 0o700) },
		[]string{"openat ..", "fsync ..", "close ..", "openat .", "mkdirat a", "fsync .", "close .", "openat a", "mkdirat a/b", "fsync a", "close a"},
	},
	"MakeFolder again": {
		func(dir string) error { return MakeFolder(dir, 0o700) },
		[]string{"openat ..", "fsync ..", "close .."},
	},
}

// TestMain also is the program that TestSystemCalls traces.
func TestMain(m *testing.M) {
	name := os.Getenv("DURABLE_TRACED")
	if name == "" {
		os.Exit(m.Run())
	}
	if err := traced[name].call(os.Getenv("DURABLE_DIR")); err != nil {
		panic(err)
	}
}

// TestSystemCalls pins the order of calls on which all else here relies, and which
// the docs of these functions list.
func TestSystemCalls(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	if b, err := exec.Command("strace", "true").CombinedOutput(); err != nil {
		t.Skipf("strace cannot trace here: %v: %s", err, b)
	}
	for name, tt := range traced {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dir")
			must.OK(t, os.Mkdir(dir, 0o700))
			must.OK(t, os.WriteFile(filepath.Join(dir, "old"), nil, 0o600))
			if got := trace(t, name, dir); !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// trace lists the calls of one function as "call path path", the paths those below
// dir and dir's own parent.
func trace(t *testing.T, name, dir string) (calls []string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command("strace", "-f", "-y", "-o", out,
		"-e", "trace=openat,write,fsync,close,link,linkat,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat", os.Args[0])
	cmd.Env = append(os.Environ(), "DURABLE_TRACED="+name, "DURABLE_DIR="+dir)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	b, err := os.ReadFile(out)
	must.OK(t, err)
	call := regexp.MustCompile(`(\w+)\(`)
	path := regexp.MustCompile(`["<](` + regexp.QuoteMeta(filepath.Dir(dir)) + `[^">]*)[">]`)
	temp := regexp.MustCompile(`^\.file\.\d+$`)
	for line := range strings.Lines(string(b)) {
		words := call.FindStringSubmatch(line)
		if words == nil {
			continue
		}
		words = words[1:]
		line, _, _ = strings.Cut(line, ") = ") // what openat returns is a path as well
		for _, p := range path.FindAllStringSubmatch(line, -1) {
			rel, err := filepath.Rel(dir, p[1])
			must.OK(t, err)
			words = append(words, temp.ReplaceAllString(rel, "temp"))
		}
		if len(words) > 1 {
			calls = append(calls, strings.Join(words, " "))
		}
	}
	return calls
}
