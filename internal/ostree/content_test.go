// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// rebuilt is a file in archive form that an Archiver made of head and content.
func rebuilt(t testing.TB, a *Archiver, n Name, head, content []byte) ([]byte, error) {
	t.Helper()
	_, h, err := ReadHead(bytes.NewReader(head))
	must.OK(t, err)
	var out bytes.Buffer
	must.OK(t, a.Begin(&out, head, &h))
	if _, err := a.Write(content); err != nil {
		return nil, err
	}
	err = a.End(n)
	return out.Bytes(), err
}

// TestContent pins that the content of every file can be read from repositories of all
// modes, that it fails at the end if it is not what its name says, and that the archive
// form that is made of it verifies.
func TestContent(t *testing.T) {
	for _, mode := range allModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r, v := newRepo(t, mode), NewVerifier(0)
			a, err := NewArchiver(6)
			must.OK(t, err)
			for _, n := range objects(t, r) {
				if n.Type != File {
					continue
				}
				c, err := r.Content(t.Context(), n)
				must.OK(t, err)
				in, err := c.Open()
				must.OK(t, err)
				b, err := io.ReadAll(in)
				must.OK(t, errors.Join(err, in.Close()))
				if int64(len(b)) != c.Size || !c.Regular() && c.Size > 0 {
					t.Errorf("%s: %d bytes of %d", n, len(b), c.Size)
				}
				made, err := rebuilt(t, a, n, c.Head, b)
				must.OK(t, err)
				if _, err := v.Verify(n, bytes.NewReader(made)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// longest is the file that is stored with the most bytes.
func longest(t *testing.T, r *Repo) (n Name) {
	t.Helper()
	most := int64(-1)
	for _, m := range objects(t, r) {
		if m.Type != File {
			continue
		}
		c, err := r.Content(t.Context(), m)
		must.OK(t, err)
		if c.Stored > most {
			n, most = m, c.Stored
		}
	}
	return n
}

// TestContentDamaged pins that damaged content is told apart from a disk that fails.
func TestContentDamaged(t *testing.T) {
	for _, mode := range []string{ModeArchive, ModeBareUser} {
		r := newRepo(t, mode)
		n := longest(t, r)
		path := r.objectPath(n)
		b, err := os.ReadFile(path)
		must.OK(t, err)
		c, err := r.Content(t.Context(), n)
		must.OK(t, err)
		middle := slices.Clone(b)
		middle[len(b)/2] ^= 0xff
		for name, bad := range map[string][]byte{"cut": b[:len(b)/2], "changed": middle} {
			must.OK(t, os.Chmod(path, 0o644))
			must.OK(t, os.WriteFile(path, bad, 0o644))
			in, err := c.Open()
			must.OK(t, err)
			_, err = io.Copy(io.Discard, in)
			must.OK(t, in.Close())
			if damaged := new(BadObjectError); !errors.As(err, &damaged) {
				t.Errorf("%s, %s: the error is %v", mode, name, err)
			}
		}
		must.OK(t, os.WriteFile(path, b, 0o644))
		ctx, cancel := context.WithCancel(t.Context())
		c, err = r.Content(ctx, n)
		must.OK(t, err)
		in, err := c.Open()
		must.OK(t, err)
		cancel()
		if _, err := io.Copy(io.Discard, in); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: the error of one that is cancelled is %v", mode, err)
		}
		must.OK(t, in.Close())
	}
}

// TestArchiver pins that what is compressed here is inflated by zlib's rules, at every
// level and whatever it is, and why content is refused.
func TestArchiver(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	v := NewVerifier(0)
	for level := 1; level <= 9; level++ {
		a, err := NewArchiver(level)
		must.OK(t, err)
		for range 40 {
			content := make([]byte, r.IntN(200_000))
			for i := range content {
				content[i] = byte(r.IntN(1 + r.IntN(256)))
			}
			n, stored := soundFile(t, string(content))
			head, _, err := ReadHead(bytes.NewReader(stored))
			must.OK(t, err)
			made, err := rebuilt(t, a, n, head, content)
			must.OK(t, err)
			if _, err := v.Verify(n, bytes.NewReader(made)); err != nil {
				t.Errorf("level %d: %v", level, err)
			}
		}
		n, stored := soundFile(t, "some content")
		head, _, err := ReadHead(bytes.NewReader(stored))
		must.OK(t, err)
		for content, want := range map[string]string{
			"some conten":   "size says 12, content has 11 bytes",
			"some contents": "size says 12, its content is longer",
			"same content":  "its content checksum is ",
		} {
			_, err := rebuilt(t, a, n, head, []byte(content))
			var bad *ContentError
			if !errors.As(err, &bad) || !bytes.Contains([]byte(err.Error()), []byte(want)) {
				t.Errorf("%q: the error is %v, want %q", content, err, want)
			}
		}
	}
}

// TestChanges pins which files two commits differ in, and that trees which are equal are
// not looked at.
func TestChanges(t *testing.T) {
	r, tree := newRepo(t, ModeArchive), t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(tree, name)
		must.OK(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must.OK(t, os.WriteFile(path, []byte(content), 0o644))
	}
	for _, name := range []string{"same/a", "changed", "gone", "folder-1/x", "folder-1/y"} {
		write(name, "first")
	}
	before := commitTree(t, r.Path(), ModeArchive, tree, "os/changes")
	write("changed", "second")
	write("new", "second")
	must.OK(t, os.Remove(filepath.Join(tree, "gone")))
	must.OK(t, os.Rename(filepath.Join(tree, "folder-1"), filepath.Join(tree, "folder-2")))
	after := commitTree(t, r.Path(), ModeArchive, tree, "os/changes")
	var got []string
	must.OK(t, r.Changes(t.Context(), before, after, func(c Change) error {
		how := map[[2]bool]string{{true, true}: "changed", {true, false}: "gone", {false, true}: "new"}[[2]bool{c.Old != nil, c.New != nil}]
		got = append(got, how+" "+c.Path)
		return nil
	}))
	slices.Sort(got)
	want := []string{"changed /changed", "gone /folder-1/x", "gone /folder-1/y", "gone /gone", "new /folder-2/x", "new /folder-2/y", "new /new"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	count := 0
	must.OK(t, r.Files(t.Context(), after, nil, func(string, Name) error { count++; return nil }))
	if count != 5 {
		t.Errorf("the tree has %d files", count)
	}
	must.OK(t, r.Changes(t.Context(), Checksum{1}, after, func(c Change) error { t.Errorf("%s differs from a commit that is not here", c.Path); return nil }))
}
