// SPDX-License-Identifier: AGPL-3.0-or-later

package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/test/must"
)

// holds checks that a folder has one file, of a content and mode.
func holds(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	files, err := os.ReadDir(filepath.Dir(path))
	must.OK(t, err)
	if len(files) != 1 || files[0].Name() != filepath.Base(path) {
		t.Errorf("the folder holds %v", files)
	}
	b, err := os.ReadFile(path)
	must.OK(t, err)
	st, err := os.Stat(path)
	must.OK(t, err)
	if string(b) != content || st.Mode() != mode {
		t.Errorf("%q, mode %v; want %q, %v", b, st.Mode(), content, mode)
	}
}

var errFill = errors.New("cannot fill")

// Create makes a file once, until Remove.
func TestCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write := func(content string, err error) func(string) error {
		return func(temp string) error { return errors.Join(os.WriteFile(temp, []byte(content), 0o600), err) }
	}
	if err := Create(path, write("bad", errFill)); !errors.Is(err, errFill) {
		t.Errorf("error %v", err)
	}
	must.OK(t, Create(path, write("first", nil)))
	must.OK(t, Create(path, write("second", nil)))
	holds(t, path, "first", 0o600)
	must.OK(t, Remove(path))
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Remove: %v", err)
	}
}

// Replace leaves the old content or the new one.
func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must.OK(t, os.WriteFile(path, []byte("old"), 0o640))
	err := Replace(path, func(f *os.File) error {
		_, err := f.WriteString("half of the n")
		return errors.Join(err, errFill)
	})
	if !errors.Is(err, errFill) {
		t.Errorf("error %v", err)
	}
	holds(t, path, "old", 0o640)
	must.OK(t, Replace(path, func(f *os.File) error {
		_, err := f.WriteString("new")
		return errors.Join(err, f.Chmod(0o644))
	}))
	holds(t, path, "new", 0o644)
}

// What a kill left of a file goes, and nothing else; where there is no folder
// there is nothing.
func TestTemporary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must.OK(t, os.WriteFile(path, []byte("old"), 0o600))
	left := filepath.Join(filepath.Dir(path), ".file.123")
	must.OK(t, os.WriteFile(left, nil, 0o600))
	if list, err := Temporary(path); err != nil || len(list) != 1 || list[0] != left {
		t.Errorf("left: %v, %v", list, err)
	}
	must.OK(t, RemoveTemporary(path))
	holds(t, path, "old", 0o600)
	must.OK(t, RemoveTemporary(filepath.Join(path+"none", "file")))
}

// Overwrite writes a shorter content and a longer one.
func TestOverwrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must.OK(t, os.WriteFile(path, []byte("something"), 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must.OK(t, err)
	for _, content := range []string{"short", "longer than all before"} {
		must.OK(t, Overwrite(f, []byte(content)))
		holds(t, path, content, 0o600)
	}
	must.OK(t, f.Close())
}

// Write makes a file, and replaces it.
func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, content := range []string{"first", "second"} {
		must.OK(t, Write(path, []byte(content)))
		holds(t, path, content, 0o600)
	}
}

// Objects get their name, time and mode, whatever the umask, on each way into a
// folder; one that is there stays.
func TestObjects(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	mtime := time.Unix(1_000_000_000, 123_456_700)
	for name, put := range map[string]func(dir int, b string) error{
		"WriteUnnamed": func(dir int, b string) error { return WriteUnnamed(dir, "object", 0o644, mtime, []byte(b)) },
		"WriteNamed":   func(dir int, b string) error { return WriteNamed(dir, "temp", "object", 0o644, mtime, []byte(b)) },
		"Move": func(dir int, b string) error {
			path := filepath.Join(t.TempDir(), "upload")
			must.OK(t, os.WriteFile(path, []byte(b), 0o600))
			return Move(path, 0o644, mtime, dir, "object")
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "object")
			dir, err := os.Open(filepath.Dir(path))
			must.OK(t, err)
			must.OK(t, put(int(dir.Fd()), "bytes"))
			must.OK(t, put(int(dir.Fd()), "other"))
			must.OK(t, dir.Close())
			holds(t, path, "bytes", 0o644)
			st, err := os.Stat(path)
			must.OK(t, err)
			if !st.ModTime().Equal(mtime) {
				t.Errorf("modified %v, want %v", st.ModTime(), mtime)
			}
		})
	}
}
