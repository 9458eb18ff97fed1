// SPDX-License-Identifier: AGPL-3.0-or-later

package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/test/must"
)

// MakeFolder makes what is missing and leaves the rest as it is; a file in its
// place is an error, also one that a dangling symlink stands for.
func TestMakeFolder(t *testing.T) {
	dir := t.TempDir()
	must.OK(t, os.Mkdir(filepath.Join(dir, "there"), 0o755))
	path := filepath.Join(dir, "there", "a", "b")
	must.OK(t, MakeFolder(path, 0o700))
	must.OK(t, MakeFolder(path, 0o755))
	for name, mode := range map[string]os.FileMode{"there": 0o755, "there/a": 0o700, "there/a/b": 0o700} {
		info, err := os.Stat(filepath.Join(dir, name))
		must.OK(t, err)
		if info.Mode() != mode|os.ModeDir {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	must.OK(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	for _, name := range []string{"file", "file/below"} {
		if err := MakeFolder(filepath.Join(dir, name), 0o700); !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must.OK(t, os.Symlink("nowhere", filepath.Join(dir, "link")))
	if err := MakeFolder(filepath.Join(dir, "link"), 0o700); err == nil {
		t.Error("a symlink to nothing passes for a folder")
	}
}

// MakeFolderIn makes nothing where the folder that has to be there is not.
func TestMakeFolderIn(t *testing.T) {
	there := filepath.Join(t.TempDir(), "there")
	path := filepath.Join(there, "a", "b")
	if err := MakeFolderIn(there+"/", path, 0o700); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the folder: %v", err)
	}
	if _, err := os.Stat(there); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
	must.OK(t, os.Mkdir(there, 0o755))
	must.OK(t, MakeFolderIn(there, path, 0o700))
	must.OK(t, MakeFolderIn(there, path, 0o700))
}

// Several may make one folder at the same time.
func TestMakeFolderTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "c")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := MakeFolder(path, 0o700); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
