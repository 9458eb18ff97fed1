// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/lirios/ostree-upload/test/must"
)

// TestEveryObjectVerifies pins the reader, the converter and the verifier
// against what libostree wrote, in each mode, and that verification does not
// depend on how the reader cuts its pieces.
func TestEveryObjectVerifies(t *testing.T) {
	for _, mode := range allModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := newRepo(t, mode)
			if r.Mode() != mode {
				t.Errorf("mode %s", r.Mode())
			}
			v := NewVerifier(0)
			count := map[Type]int{}
			for _, n := range objects(t, r) {
				count[n.Type]++
				b := load(t, r, n)
				if _, err := v.Verify(n, bytes.NewReader(b)); err != nil {
					t.Error(err)
				}
				if len(b) < 100_000 {
					if _, err := v.Verify(n, iotest.OneByteReader(bytes.NewReader(b))); err != nil {
						t.Error(err)
					}
				}
			}
			if count[File] < 40 || count[DirTree] < 8 || count[DirMeta] < 2 || count[CommitObject] != 1 {
				t.Errorf("the sample has only %v", count)
			}
		})
	}
}

// TestConvertedPassesFsck pins that libostree itself accepts what the converter
// makes, in an archive repository put together by hand.
func TestConvertedPassesFsck(t *testing.T) {
	for _, mode := range allModes[1:] {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := newRepo(t, mode)
			path := filepath.Join(t.TempDir(), "archive")
			ostree(t, "init", "--repo="+path, "--mode=archive")
			for _, n := range objects(t, r) {
				writeFile(t, filepath.Join(path, "objects", n.Path()), load(t, r, n))
			}
			c, err := r.Ref("os/test")
			must.OK(t, err)
			writeFile(t, filepath.Join(path, "refs/heads/os/test"), []byte(c.String()+"\n"))
			ostree(t, "fsck", "--repo="+path)
		})
	}
}

// TestLargeContentSeeks pins that a resumed upload of converted content gets the
// bytes that the first attempt would have sent.
func TestLargeContentSeeks(t *testing.T) {
	r := newRepo(t, ModeBare)
	n := largest(t, r)
	whole := load(t, r, n)
	o, err := r.Object(t.Context(), n)
	must.OK(t, err)
	f, err := o.Open()
	must.OK(t, err)
	defer f.Close()
	s := f.(io.ReadSeeker)
	for _, at := range []int64{1 << 20, 3<<20 + 7, 100, 0, o.Size - 1, o.Size} {
		if pos, err := s.Seek(at-o.Size, io.SeekEnd); err != nil || pos != at {
			t.Fatalf("seek: %d, %v", pos, err)
		}
		if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, whole[at:]) {
			t.Errorf("from %d: %d bytes, %v", at, len(got), err)
		}
	}
	must.OK(t, f.Close())
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
}

// TestConversionEnds pins that the conversion of a huge file, in either pass or
// up to where an upload resumes, ends when it is not wanted any more.
func TestConversionEnds(t *testing.T) {
	r := newRepo(t, ModeBare)
	n := largest(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	o, err := r.Object(ctx, n)
	must.OK(t, err)
	f, err := o.Open()
	must.OK(t, err)
	defer f.Close()
	_, err = f.Read(make([]byte, 1))
	must.OK(t, err)
	cancel()
	if _, err := io.Copy(io.Discard, f); !errors.Is(err, context.Canceled) {
		t.Errorf("second pass: %v", err)
	}
	_, err = f.(io.Seeker).Seek(1<<20, io.SeekStart)
	must.OK(t, err)
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("resumed: %v", err)
	}
	if _, err := r.Object(ctx, n); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), n.String()) {
		t.Errorf("first pass: %v", err)
	}
}

// TestStoredObjectEnds pins the same of an object that is read as it is stored,
// also by io.Copy, which can go around Read.
func TestStoredObjectEnds(t *testing.T) {
	r := newRepo(t, ModeArchive)
	ctx, cancel := context.WithCancel(t.Context())
	o, err := r.Object(ctx, smallFile(t, r))
	must.OK(t, err)
	f, err := o.Open()
	must.OK(t, err)
	defer f.Close()
	cancel()
	if n, err := io.Copy(io.Discard, f); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func largest(t testing.TB, r *Repo) (n Name) {
	t.Helper()
	var most int64
	for _, m := range objects(t, r) {
		info, err := os.Stat(r.objectPath(m))
		if err == nil && m.Type == File && info.Size() >= most && !bytes.HasPrefix(readHead(t, r, m), []byte{0, 0}) {
			n, most = m, info.Size()
		}
	}
	return n
}

func readHead(t testing.TB, r *Repo, n Name) []byte {
	b, err := os.ReadFile(r.objectPath(n))
	must.OK(t, err)
	return b[:min(2, len(b))]
}

// TestDamageOnDisk pins that converting notices bytes that changed on the build
// host, before they are sent.
func TestDamageOnDisk(t *testing.T) {
	for _, mode := range allModes[1:] {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := newRepo(t, mode)
			for _, n := range []Name{largest(t, r), smallFile(t, r)} {
				path := r.objectPath(n)
				b, err := os.ReadFile(path)
				must.OK(t, err)
				b[len(b)/2] ^= 1
				must.OK(t, os.Chmod(path, 0o644))
				f, err := os.OpenFile(path, os.O_WRONLY, 0)
				must.OK(t, err)
				_, err = f.Write(b)
				must.OK(t, err)
				must.OK(t, f.Close())
				_, err = r.Object(t.Context(), n)
				var bad *BadObjectError
				if !errors.As(err, &bad) || bad.Object != n || !strings.HasPrefix(bad.Reason, errMismatch) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

func smallFile(t testing.TB, r *Repo) Name {
	t.Helper()
	for _, n := range objects(t, r) {
		info, err := os.Lstat(r.objectPath(n))
		must.OK(t, err)
		if n.Type == File && info.Mode().IsRegular() && info.Size() > 0 && info.Size() < 1000 {
			return n
		}
	}
	t.Fatal("no small file")
	return Name{}
}

// TestOpenRepoRefuses pins that each way of not being a repository is told apart.
func TestOpenRepoRefuses(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "file"), nil)
	for name, files := range map[string]map[string]string{
		"noconfig":  {"objects/x": ""},
		"noobjects": {"config": "[core]\nmode=bare\n"},
		"nomode":    {"objects/x": "", "config": "[core]\nmode=bare-split-xattrs\n"},
		"version":   {"objects/x": "", "config": "[core]\nrepo_version=2\nmode=bare\n"},
		"garbage":   {"objects/x": "", "config": "what is this\n"},
		"circle":    {"objects/x": "", "config": "[core]\nmode=bare\nparent=" + dir + "/circle\n"},
	} {
		for f, s := range files {
			writeFile(t, filepath.Join(dir, name, f), []byte(s))
		}
	}
	for name, want := range map[string]string{
		"missing": "no OSTree repository at", "file": "it is not a folder",
		"noconfig": `it has no "config"`, "noobjects": `it has no "objects"`,
		"nomode": `mode "bare-split-xattrs" is not supported`, "version": `version "2" is not supported`,
		"garbage": "config line 1", "circle": "circle",
	} {
		_, err := OpenRepo(filepath.Join(dir, name))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if errors.Is(err, fs.ErrNotExist) != (name == "missing") {
			t.Errorf("%s: fs.ErrNotExist is wrong in %v", name, err)
		}
	}
}

// TestConfig pins the settings that matter, in the form that libostree writes.
func TestConfig(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "objects/x"), nil)
	writeFile(t, filepath.Join(dir, "config"), []byte("# a comment\n[other]\nmode=bare\n\n[core]\nrepo_version=1\nmode = archive\ncollection-id=org.example.A\nlocking=false\nauto-update-summary=1\n[remote \"x\"]\nurl=http://x/?a=b\n"))
	r := openedRepo(t, dir)
	if r.Mode() != ModeArchive || r.CollectionID() != "org.example.A" || r.Path() != dir || r.Locks() || !r.AutoUpdateSummary() {
		t.Errorf("%s %s %s %v %v", r.Mode(), r.CollectionID(), r.Path(), r.Locks(), r.AutoUpdateSummary())
	}
}

// checkAliases pins that a ref is told from an alias: one that ostree made, also
// of a ref that is gone, a folder that is a symlink, and one that leads away.
func checkAliases(t *testing.T, r *Repo) {
	t.Helper()
	heads := filepath.Join(r.Path(), "refs/heads")
	must.OK(t, os.Symlink("gone", filepath.Join(heads, "os/dangling")))
	must.OK(t, os.Symlink("os/x86_64", filepath.Join(heads, "folder")))
	must.OK(t, os.Symlink("/elsewhere", filepath.Join(heads, "away")))
	for ref, want := range map[string]string{
		"os/test": "", "top": "", "os/none": "", "none/below": "", "top/below": "",
		"os/latest": "os/test", "os/dangling": "os/gone", "folder/a.b-c": "os/x86_64/a.b-c", "away/x": "/elsewhere/x",
	} {
		if target, is, err := r.Alias(ref); target != want || is != (want != "") || err != nil {
			t.Errorf("ref %s: alias of %q, %v, %v; want %q", ref, target, is, err, want)
		}
	}
}

// TestMinFree pins what libostree makes of the settings for free space.
func TestMinFree(t *testing.T) {
	const total = 1 << 50
	for settings, want := range map[string]uint64{
		"":                                  total / 100 * 3,
		"min-free-space-percent=0":          0,
		"min-free-space-percent=50":         total / 2,
		"min-free-space-percent=100":        1,
		"min-free-space-size=0MB":           0,
		"min-free-space-size=500MB":         500 << 20,
		"min-free-space-size=2TB":           2 << 40,
		"min-free-space-size=99999999999TB": 1,
		"min-free-space-size=500":           1,
		"min-free-space-size=1GB\nmin-free-space-percent=50": 1 << 30,
		"min-free-space-size=0GB\nmin-free-space-percent=50": total / 2,
	} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "objects/x"), nil)
		writeFile(t, filepath.Join(dir, "config"), []byte("[core]\nmode=archive\n"+settings+"\n"))
		r := openedRepo(t, dir)
		got, setting, err := r.minFree(total)
		if want == 1 { // libostree does not open such a repository
			if _, spaceErr := r.Space(); err == nil || spaceErr == nil {
				t.Errorf("%q is taken", settings)
			}
			continue
		}
		if got < want || got > want+100 || err != nil || (setting != "") != (got > 0) {
			t.Errorf("%q: %d, %q, %v; want %d", settings, got, setting, err, want)
		}
	}
}

// TestParent pins that objects and refs are looked up in core.parent, whatever
// its mode, but not those that an empty file of the repository's own hides.
func TestParent(t *testing.T) {
	parent := newRepo(t, ModeBareUser)
	path := filepath.Join(t.TempDir(), "child")
	ostree(t, "init", "--repo="+path, "--mode=archive")
	ostree(t, "config", "--repo="+path, "set", "core.parent", parent.Path())
	r := openedRepo(t, path)
	for _, n := range objects(t, parent) {
		if has, err := r.Has(n); !has || err != nil {
			t.Fatalf("%s: %v %v", n, has, err)
		}
		if _, err := NewVerifier(0).Verify(n, bytes.NewReader(load(t, r, n))); err != nil {
			t.Error(err)
		}
	}
	for _, n := range objects(t, parent) {
		own := filepath.Join(path, "objects", n.Path())
		must.OK(t, os.MkdirAll(filepath.Dir(own), 0o755))
		writeFile(t, own, nil)
		if has, err := r.Has(n); has || err != nil {
			t.Errorf("%s, empty: %v %v", n, has, err)
		}
		must.OK(t, os.Remove(own))
	}
	if c, err := r.Ref("os/test"); err != nil || c == (Checksum{}) {
		t.Error(c, err)
	}
}

// TestRefs pins nested refs, aliases, leftovers of editors, and unknown names.
func TestRefs(t *testing.T) {
	r := newRepo(t, ModeArchive)
	c, err := r.Ref("os/test")
	must.OK(t, err)
	ostree(t, "refs", "--repo="+r.Path(), "--create=top", "os/test")
	ostree(t, "refs", "--repo="+r.Path(), "--create=os/x86_64/a.b-c", "os/test")
	ostree(t, "refs", "--repo="+r.Path(), "--create=os/latest", "--alias", "os/test")
	writeFile(t, filepath.Join(r.Path(), "refs/heads/os/.test.swp"), []byte("junk"))
	refs, err := r.Refs()
	must.OK(t, err)
	for _, ref := range []string{"os/test", "top", "os/x86_64/a.b-c", "os/latest"} {
		if refs[ref] != c {
			t.Errorf("ref %s: %s", ref, refs[ref])
		}
		if got, err := r.Ref(ref); got != c || err != nil {
			t.Errorf("ref %s: %v", ref, err)
		}
		delete(refs, ref)
	}
	if len(refs) != 0 {
		t.Errorf("also got %v", refs)
	}
	for _, ref := range []string{"none", "os", "os/test/below", "", "../../config", "os/../top", strings.Repeat("a", 300)} {
		if _, err := r.Ref(ref); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ref %q: %v", ref, err)
		}
	}
	checkAliases(t, r)
	writeFile(t, filepath.Join(r.Path(), "refs/heads/broken"), []byte("not a checksum\n"))
	if _, err := r.Refs(); err == nil || !strings.Contains(err.Error(), "ref broken") {
		t.Error(err)
	}
}

// TestMissing pins that what is not there is told from what cannot be read.
func TestMissing(t *testing.T) {
	r := newRepo(t, ModeBare)
	for _, typ := range []Type{File, DirTree, DirMeta, CommitObject, CommitMeta} {
		n := Name{Type: typ}
		if has, err := r.Has(n); has || err != nil {
			t.Errorf("%s: %v %v", n, has, err)
		}
		if _, err := r.Object(t.Context(), n); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", n, err)
		}
		if _, err := r.Metadata(n); typ != File && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", n, err)
		}
	}
}

// TestCommitView pins the fields against what `ostree commit` was told.
func TestCommitView(t *testing.T) {
	r := newRepo(t, ModeArchive)
	first, err := r.Ref("os/test")
	must.OK(t, err)
	ostree(t, "config", "--repo="+r.Path(), "set", "core.collection-id", "org.example.Test")
	second := commitTree(t, r.Path(), ModeArchive, sampleTree(t), "os/test",
		"--subject=größer", "--timestamp=2020-02-03T04:05:06Z", "--bind-ref=os/other", "--add-metadata-string=a=1", "--add-metadata-string=a=2")
	c, err := r.commit(second)
	must.OK(t, err)
	if !c.HasParent || c.Parent != first ||
		strings.Join(c.RefBindings, " ") != "os/other os/test" || c.CollectionID != "org.example.Test" {
		t.Errorf("%+v", c)
	}
	old, err := r.commit(first)
	must.OK(t, err)
	if old.HasParent || !old.HasRefBindings || old.CollectionID != "" {
		t.Errorf("%+v", old)
	}
	for _, tt := range []struct {
		a, b Checksum
		want bool
	}{{first, second, true}, {second, first, false}, {first, first, true}, {Checksum{1}, second, false}} {
		if got, err := r.IsAncestor(tt.a, tt.b); got != tt.want || err != nil {
			t.Errorf("IsAncestor(%s, %s) = %v, %v", tt.a, tt.b, got, err)
		}
	}
}

// TestConcurrentUse lets goroutines share one Repo, under the race detector in
// `make race`.
func TestConcurrentUse(t *testing.T) {
	r := newRepo(t, ModeBareUser)
	names := objects(t, r)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			v := NewVerifier(0)
			for _, n := range names {
				o, err := r.Object(t.Context(), n)
				if err != nil {
					t.Error(err)
					continue
				}
				f, err := o.Open()
				if err != nil {
					t.Error(err)
					continue
				}
				if _, err := v.Verify(n, f); err != nil {
					t.Error(err)
				}
				_ = f.Close()
			}
		})
	}
	wg.Wait()
}
