// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"errors"
	"fmt"
)

// FileEntry is a file or symlink in a directory.
type FileEntry struct {
	Name     string
	Checksum Checksum
}

// DirEntry is a subdirectory.
type DirEntry struct {
	Name       string
	Tree, Meta Checksum
}

// Tree is a dirtree object, GVariant (a(say)a(sayay)).
type Tree struct {
	Files []FileEntry
	Dirs  []DirEntry
}

// ParseDirTree reads a dirtree. An error means that it is not in normal form,
// that a checksum has another length, or that a name cannot be a file's name,
// is out of order, or stands there twice.
func ParseDirTree(b []byte) (*Tree, error) {
	v, err := openTree(b)
	if err != nil {
		return nil, err
	}
	t := &Tree{Files: make([]FileEntry, v.files.len()), Dirs: make([]DirEntry, v.dirs.len())}
	for i := range t.Files {
		m := v.file(i)
		t.Files[i] = FileEntry{Name: str(m[0]), Checksum: Checksum(m[1])}
	}
	for i := range t.Dirs {
		m := v.dir(i)
		t.Dirs[i] = DirEntry{Name: str(m[0]), Tree: Checksum(m[1]), Meta: Checksum(m[2])}
	}
	return t, nil
}

// treeView reads a dirtree that was checked, in place.
type treeView struct{ files, dirs gvArray }

// openTree checks a dirtree; it allocates nothing, since a server does this for
// every directory that arrives.
func openTree(b []byte) (treeView, error) {
	var v treeView
	if err := checkMetadata(treeType, b, "a dirtree's (a(say)a(sayay))"); err != nil {
		return v, err
	}
	var m [2][]byte
	members(treeType, b, m[:])
	v.files, _ = openArray(treeType.members[0], m[0])
	v.dirs, _ = openArray(treeType.members[1], m[1])
	if err := v.checkFiles(); err != nil {
		return v, err
	}
	if err := v.checkDirs(); err != nil {
		return v, err
	}
	return v, v.checkShared()
}

func (v *treeView) file(i int) (m [2][]byte) {
	members(v.files.elem, v.files.at(i), m[:])
	return m
}

func (v *treeView) dir(i int) (m [3][]byte) {
	members(v.dirs.elem, v.dirs.at(i), m[:])
	return m
}

func (v *treeView) checkFiles() error {
	var last []byte
	for i := range v.files.len() {
		m := v.file(i)
		if err := checkEntry(m[0], last, m[1]); err != nil {
			return err
		}
		last = m[0]
	}
	return nil
}

func (v *treeView) checkDirs() error {
	var last []byte
	for i := range v.dirs.len() {
		m := v.dir(i)
		if err := checkEntry(m[0], last, m[1], m[2]); err != nil {
			return err
		}
		last = m[0]
	}
	return nil
}

// checkEntry checks one entry's name, its place after the last one and its
// checksums. Names come with their NUL, which sorts as their end does.
func checkEntry(name, last []byte, sums ...[]byte) error {
	s := name[:len(name)-1]
	if err := checkFileName(s); err != nil {
		return err
	}
	switch c := bytes.Compare(name, last); {
	case c == 0:
		return fmt.Errorf("the name %q stands there twice", clip(string(s)))
	case c < 0:
		return fmt.Errorf("the name %q is not in sorted order", clip(string(s)))
	}
	for _, sum := range sums {
		if len(sum) != 32 {
			return fmt.Errorf("a checksum of %q has %d bytes instead of 32", clip(string(s)), len(sum))
		}
	}
	return nil
}

func checkFileName(s []byte) error {
	switch {
	case len(s) == 0:
		return errors.New("a name is empty")
	case string(s) == "." || string(s) == "..":
		return fmt.Errorf("the name %q is not a file's", s)
	case bytes.IndexByte(s, '/') >= 0:
		return fmt.Errorf("the name %q has a slash", clip(string(s)))
	}
	return nil
}

// checkShared looks for a name that is both a file's and a directory's, walking
// the two sorted lists side by side.
func (v *treeView) checkShared() error {
	for f, d := 0, 0; f < v.files.len() && d < v.dirs.len(); {
		file, dir := v.file(f)[0], v.dir(d)[0]
		switch c := bytes.Compare(file, dir); {
		case c < 0:
			f++
		case c > 0:
			d++
		default:
			return fmt.Errorf("the name %q is a file's and a directory's", clip(str(file)))
		}
	}
	return nil
}

// Children calls fn for each object that the metadata object n with bytes b
// names directly: of a commit its root dirtree and dirmeta (not its parent), of a
// dirtree its files, and each subdirectory's dirtree and dirmeta. Other types
// have none. An object named twice is given twice. It stops at fn's first error
// and returns that; bytes that are not such an object give a *BadObjectError.
func Children(n Name, b []byte, fn func(Name) error) error {
	switch n.Type {
	case CommitObject:
		c, err := ParseCommit(b)
		if err != nil {
			return &BadObjectError{Object: n, Reason: err.Error()}
		}
		if err := fn(Name{c.Tree, DirTree}); err != nil {
			return err
		}
		return fn(Name{c.Meta, DirMeta})
	case DirTree:
		v, err := openTree(b)
		if err != nil {
			return &BadObjectError{Object: n, Reason: err.Error()}
		}
		return v.children(fn)
	}
	return nil
}

func (v *treeView) children(fn func(Name) error) error {
	for i := range v.files.len() {
		if err := fn(Name{Checksum(v.file(i)[1]), File}); err != nil {
			return err
		}
	}
	for i := range v.dirs.len() {
		m := v.dir(i)
		if err := fn(Name{Checksum(m[1]), DirTree}); err != nil {
			return err
		}
		if err := fn(Name{Checksum(m[2]), DirMeta}); err != nil {
			return err
		}
	}
	return nil
}
