// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/test/must"
	build "github.com/lirios/ostree-upload/test/objects"
)

var allModes = []string{ModeArchive, ModeBare, ModeBareUser, ModeBareUserOnly}

// ostree runs the real thing and returns its standard output, trimmed.
func ostree(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command("ostree", args...)
	cmd.Env = append(os.Environ(), "OSTREE_DUMMY_SIGN_ENABLED=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ostree %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// newRepo makes a repository of that mode with one commit of the sample tree
// under the ref os/test.
func newRepo(t testing.TB, mode string) *Repo {
	t.Helper()
	path := filepath.Join(t.TempDir(), "repo")
	ostree(t, "init", "--repo="+path, "--mode="+mode)
	commitTree(t, path, mode, sampleTree(t), "os/test")
	return openedRepo(t, path)
}

func openedRepo(t testing.TB, path string) *Repo {
	t.Helper()
	r, err := OpenRepo(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func commitTree(t testing.TB, repo, mode, tree, ref string, more ...string) Checksum {
	t.Helper()
	args := []string{"commit", "--fsync=no", "--repo=" + repo, "--branch=" + ref, "--subject=A test", "--tree=dir=" + tree}
	if mode == ModeBareUserOnly {
		args = append(args, "--canonical-permissions")
	}
	c, err := ParseChecksum(ostree(t, append(args, more...)...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// shared is made once, by the first test that asks, and only read.
var shared struct {
	treeOnce, repoOnce sync.Once
	tree, repo         string
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, dir := range []string{shared.tree, shared.repo} {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// sharedRepo is an archive repository with a signed commit of the sample tree.
func sharedRepo(t testing.TB) *Repo {
	t.Helper()
	shared.repoOnce.Do(func() {
		dir, err := os.MkdirTemp("", "ostree-repo")
		must.OK(t, err)
		shared.repo = dir
		ostree(t, "init", "--repo="+dir, "--mode=archive")
		c := commitTree(t, dir, ModeArchive, sampleTree(t), "os/test")
		ostree(t, "sign", "--repo="+dir, "--sign-type=dummy", c.String(), "key")
	})
	return openedRepo(t, shared.repo)
}

// sampleTree is a folder with one of each kind of file that matters here.
func sampleTree(t testing.TB) string {
	t.Helper()
	shared.treeOnce.Do(func() {
		dir, err := os.MkdirTemp("", "ostree-sample")
		must.OK(t, err)
		shared.tree = dir
		must.OK(t, os.Chmod(dir, 0o755))
		fillSample(t, dir)
	})
	return shared.tree
}

func fillSample(t testing.TB, dir string) {
	t.Helper()
	random := make([]byte, 5<<20)
	rand.NewChaCha8([32]byte{1}).Read(random)
	for name, content := range map[string][]byte{
		"empty":             nil,
		"one":               {'x'},
		"usr/bin/tool":      bytes.Repeat([]byte("#!/bin/sh\necho hello\n"), 500),
		"usr/bin/suid":      []byte("suid"),
		"usr/lib/random":    random[:200_000],
		"usr/lib/large":     random,
		"usr/lib/zeros":     make([]byte, 6<<20),
		"usr/share/größe/漢": []byte("names"),
		"usr/share/attrs":   []byte("with xattrs"),
		"usr/share/copy1":   []byte("the same twice"),
		"usr/share/copy2":   []byte("the same twice"),
	} {
		writeFile(t, filepath.Join(dir, name), content)
	}
	for i := range 40 {
		writeFile(t, filepath.Join(dir, "many", fmt.Sprint("file", i)), fmt.Append(nil, "content ", i))
	}
	must.OK(t, os.Chmod(filepath.Join(dir, "usr/bin/tool"), 0o755))
	must.OK(t, os.Chmod(filepath.Join(dir, "usr/bin/suid"), 0o755|fs.ModeSetuid))
	must.OK(t, os.Symlink("usr/lib", filepath.Join(dir, "lib")))
	must.OK(t, os.Symlink("../../größe", filepath.Join(dir, "usr/share/link")))
	must.OK(t, os.Mkdir(filepath.Join(dir, "void"), 0o700))
	for _, name := range []string{"user.zeta", "user.alpha", "user.beta.longer"} {
		must.OK(t, unix.Setxattr(filepath.Join(dir, "usr/share/attrs"), name, []byte("value of "+name), 0))
		must.OK(t, unix.Setxattr(filepath.Join(dir, "usr"), name, nil, 0))
	}
	// More than 255 bytes of header, so that its framing offset takes two.
	must.OK(t, unix.Setxattr(filepath.Join(dir, "usr/bin/tool"), "user.big", bytes.Repeat([]byte("v"), 700), 0))
	// 247 to 255 bytes: the content header needs one byte, the filez header two.
	for i := range 16 {
		p := filepath.Join(dir, "many", fmt.Sprint("file", i))
		must.OK(t, unix.Setxattr(p, "user.edge", bytes.Repeat([]byte("e"), 195+i), 0))
	}
}

func writeFile(t testing.TB, path string, content []byte) {
	t.Helper()
	must.OK(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.OK(t, os.WriteFile(path, content, 0o644))
}

// named is an object's name as this package has it.
func named(t testing.TB, o build.Object) Name {
	t.Helper()
	n, err := ParseName(o.Name())
	must.OK(t, err)
	return n
}

// soundFile is a regular file's object and its name.
func soundFile(t testing.TB, content string) (Name, []byte) {
	t.Helper()
	o := build.SoundFile(content).Object()
	return named(t, o), o.Bytes
}

// metaName is the name of a metadata object of these bytes.
func metaName(t Type, b []byte) Name { return Name{sha256.Sum256(b), t} }

// objects lists what lies in a repository's objects folder, by name.
func objects(t testing.TB, r *Repo) []Name {
	t.Helper()
	var names []Name
	files, err := filepath.Glob(filepath.Join(r.Path(), "objects", "??", "*"))
	must.OK(t, err)
	for _, f := range files {
		s := filepath.Base(filepath.Dir(f)) + filepath.Base(f)
		if strings.HasSuffix(s, ".file") {
			s += "z"
		}
		n, err := ParseName(s)
		must.OK(t, err)
		names = append(names, n)
	}
	return names
}

// load returns an object's archive form.
func load(t testing.TB, r *Repo, n Name) []byte {
	t.Helper()
	o, err := r.Object(t.Context(), n)
	must.OK(t, err)
	f, err := o.Open()
	must.OK(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	must.OK(t, err)
	if int64(len(b)) != o.Size {
		t.Errorf("object %s: size says %d, %d bytes came", n, o.Size, len(b))
	}
	return b
}
