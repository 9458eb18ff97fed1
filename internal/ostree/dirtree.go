// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/lirios/ostree-upload/internal/gvariant"
)

var (
	treeType  = gvariant.MustParse("(a(say)a(sayay))")
	filesType = gvariant.MustParse("a(say)")
	dirsType  = gvariant.MustParse("a(sayay)")
)

// dirTree is a dirtree object, GVariant (a(say)a(sayay)), that was checked and is
// read in place.
type dirTree struct{ files, dirs gvariant.Array }

// parseDirTree checks a dirtree. An error means that it is not in normal form, that
// a checksum has another length, or that a name cannot be a file's name, is not in
// order or comes twice. It allocates nothing, since a server does this for every
// directory that arrives.
func parseDirTree(b []byte) (dirTree, error) {
	var t dirTree
	if err := checkMetadata(treeType, b, "a dirtree's (a(say)a(sayay))"); err != nil {
		return t, err
	}
	var m [2][]byte
	treeType.Members(b, m[:])
	t.files = filesType.Elements(m[0])
	t.dirs = dirsType.Elements(m[1])
	if err := t.checkFiles(); err != nil {
		return t, err
	}
	if err := t.checkDirs(); err != nil {
		return t, err
	}
	return t, t.checkShared()
}

func (t *dirTree) file(i int) (m [2][]byte) {
	t.files.Members(i, m[:])
	return m
}

func (t *dirTree) dir(i int) (m [3][]byte) {
	t.dirs.Members(i, m[:])
	return m
}

func (t *dirTree) checkFiles() error {
	var last []byte
	for i := range t.files.Len() {
		m := t.file(i)
		if err := checkEntry(m[0], last, m[1]); err != nil {
			return err
		}
		last = m[0]
	}
	return nil
}

func (t *dirTree) checkDirs() error {
	var last []byte
	for i := range t.dirs.Len() {
		m := t.dir(i)
		if err := checkEntry(m[0], last, m[1], m[2]); err != nil {
			return err
		}
		last = m[0]
	}
	return nil
}

// checkEntry checks one entry: its name, that this follows the last one in order,
// and its checksums. Names come with their NUL, which sorts before all else, as the
// end of a name does.
func checkEntry(name, last []byte, sums ...[]byte) error {
	s := name[:len(name)-1]
	if err := checkFileName(s); err != nil {
		return err
	}
	switch c := bytes.Compare(name, last); {
	case c == 0:
		return fmt.Errorf("duplicate name %q", clip(string(s)))
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
		return fmt.Errorf("%q is not the name of a file", s)
	case bytes.IndexByte(s, '/') >= 0:
		return fmt.Errorf("the name %q has a slash", clip(string(s)))
	}
	return nil
}

// checkShared looks for a name that a file and a directory share. It walks through
// both sorted lists at once.
func (t *dirTree) checkShared() error {
	for f, d := 0, 0; f < t.files.Len() && d < t.dirs.Len(); {
		file, dir := t.file(f)[0], t.dir(d)[0]
		switch c := bytes.Compare(file, dir); {
		case c < 0:
			f++
		case c > 0:
			d++
		default:
			return fmt.Errorf("the name %q belongs to a file and to a directory", clip(gvariant.String(file)))
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
	return Entries(n, b, func(_ []byte, child Name) error { return fn(child) })
}

// Entries is Children with the name of the file or directory that each object
// belongs to, which is valid during the call only; none for the root of a commit.
func Entries(n Name, b []byte, fn func(name []byte, child Name) error) error {
	switch n.Type {
	case CommitObject:
		c, err := ParseCommit(b)
		if err != nil {
			return &BadObjectError{Object: n, Reason: err.Error()}
		}
		if err := fn(nil, Name{c.Tree, DirTree}); err != nil {
			return err
		}
		return fn(nil, Name{c.Meta, DirMeta})
	case DirTree:
		t, err := parseDirTree(b)
		if err != nil {
			return &BadObjectError{Object: n, Reason: err.Error()}
		}
		return t.entries(fn)
	}
	return nil
}

func (t *dirTree) entries(fn func(name []byte, child Name) error) error {
	for i := range t.files.Len() {
		m := t.file(i)
		if err := fn(withoutNUL(m[0]), Name{Checksum(m[1]), File}); err != nil {
			return err
		}
	}
	for i := range t.dirs.Len() {
		m := t.dir(i)
		name := withoutNUL(m[0])
		if err := fn(name, Name{Checksum(m[1]), DirTree}); err != nil {
			return err
		}
		if err := fn(name, Name{Checksum(m[2]), DirMeta}); err != nil {
			return err
		}
	}
	return nil
}

// withoutNUL is a string of GVariant as bytes.
func withoutNUL(s []byte) []byte { return s[:len(s)-1] }
