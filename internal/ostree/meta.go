// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"errors"
	"fmt"
)

// File types and permission bits of a mode, as Linux numbers them.
const (
	modeType    = 0o170000
	modeDir     = 0o040000
	modeRegular = 0o100000
	modeSymlink = 0o120000
	modePerm    = 0o007777
)

// maxXattrNames is Linux's XATTR_LIST_MAX: no file has more, and it keeps a
// hostile header from filling memory with millions of names.
const maxXattrNames = 64 << 10

// Xattr is one extended attribute; Name is without its NUL.
type Xattr struct{ Name, Value []byte }

// Meta is a dirmeta object, GVariant (uuua(ayay)).
type Meta struct {
	UID, GID, Mode uint32 // Mode with its file type
	Xattrs         []Xattr
}

// ParseDirMeta reads a dirmeta. An error means that it is not in normal form,
// that its mode is not a directory's, or that an xattr's name cannot be one.
func ParseDirMeta(b []byte) (*Meta, error) {
	m, err := parseFileMeta(b, "a dirmeta's (uuua(ayay))")
	if err != nil {
		return nil, err
	}
	if m.Mode&^modePerm != modeDir {
		return nil, fmt.Errorf("mode %#o is not a directory's", m.Mode)
	}
	return m, nil
}

// parseFileMeta reads the (uuua(ayay)) that dirmetas and the user.ostreemeta of
// a bare-user repository share, without a look at the mode.
func parseFileMeta(b []byte, what string) (*Meta, error) {
	if err := checkMetadata(metaType, b, what); err != nil {
		return nil, err
	}
	var m [4][]byte
	members(metaType, b, m[:])
	xattrs, err := readXattrs(m[3])
	if err != nil {
		return nil, err
	}
	return &Meta{UID: be32(m[0]), GID: be32(m[1]), Mode: be32(m[2]), Xattrs: xattrs}, nil
}

// readXattrs reads an a(ayay) in normal form. Names end in their only NUL, are
// not empty and differ. They need not be sorted: libostree before 2024.10 wrote
// them as they came. The result shares b's memory.
func readXattrs(b []byte) ([]Xattr, error) {
	a, _ := openArray(xattrsType, b)
	if a.len() == 0 {
		return nil, nil
	}
	var list []Xattr
	seen, room := map[string]bool{}, maxXattrNames
	for i := range a.len() {
		var m [2][]byte
		members(a.elem, a.at(i), m[:])
		name, err := xattrName(m[0])
		if err != nil {
			return nil, err
		}
		if room -= len(m[0]); room < 0 {
			return nil, fmt.Errorf("the names of its xattrs take more than %d bytes", maxXattrNames)
		}
		if seen[string(name)] {
			return nil, fmt.Errorf("the xattr %q stands there twice", clip(string(name)))
		}
		seen[string(name)] = true
		list = append(list, Xattr{Name: name, Value: m[1]})
	}
	return list, nil
}

func xattrName(b []byte) ([]byte, error) {
	last := len(b) - 1
	switch {
	case last < 0 || bytes.IndexByte(b, 0) != last:
		return nil, errors.New("an xattr's name does not end in its only NUL")
	case last == 0:
		return nil, errors.New("an xattr's name is empty")
	}
	return b[:last], nil
}

// writeXattrs serialises an a(ayay).
func writeXattrs(list []Xattr) []byte {
	elems := make([][]byte, len(list))
	for i, x := range list {
		e := append(bytes.Clone(x.Name), 0)
		name := len(e)
		e = append(e, x.Value...)
		elems[i] = appendOffsets(e, len(e), []int{name})
	}
	return writeArray(0, elems)
}
