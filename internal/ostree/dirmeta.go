// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/lirios/ostree-upload/internal/gvariant"
)

// File types and permission bits of a mode, as Linux numbers them.
const (
	modeType    = 0o170000
	modeDir     = 0o040000
	modeRegular = 0o100000
	modeSymlink = 0o120000
	modePerm    = 0o007777
)

// maxXattrNames bounds the names of a file's xattrs, as Linux does
// (XATTR_LIST_MAX): a hostile header cannot fill memory with millions of names.
const maxXattrNames = 64 << 10

// What Linux takes of one xattr (XATTR_NAME_MAX, XATTR_SIZE_MAX): nobody can check
// out a file or directory that has more.
const (
	maxXattrName  = 255
	maxXattrValue = 64 << 10
)

// unfitError says of an object that no file system can hold it.
type unfitError string

func (e unfitError) Error() string { return string(e) }

// Xattr is one extended attribute; Name is without its NUL.
type Xattr struct{ Name, Value []byte }

var (
	metaType   = gvariant.MustParse("(uuua(ayay))")
	xattrsType = gvariant.MustParse("a(ayay)")
)

// fileMeta is a dirmeta object, GVariant (uuua(ayay)), or the same of a file.
type fileMeta struct {
	UID, GID, Mode uint32 // Mode with its file type
	Xattrs         []Xattr
}

// parseDirMeta reads a dirmeta. An error means that it is not in normal form,
// that its mode is not a directory's, or that an xattr's name cannot be one.
func parseDirMeta(b []byte) (*fileMeta, error) {
	m, err := parseFileMeta(b, "a dirmeta's (uuua(ayay))")
	if err != nil {
		return nil, err
	}
	if m.Mode&^modePerm != modeDir {
		return nil, fmt.Errorf("mode %#o is not a directory's", m.Mode)
	}
	return m, nil
}

// parseFileMeta reads the (uuua(ayay)) of a dirmeta, or of user.ostreemeta in a
// bare-user repository. It does not check the mode.
func parseFileMeta(b []byte, what string) (*fileMeta, error) {
	if err := checkMetadata(metaType, b, what); err != nil {
		return nil, err
	}
	var m [4][]byte
	metaType.Members(b, m[:])
	xattrs, err := readXattrs(m[3])
	if err != nil {
		return nil, err
	}
	return &fileMeta{UID: be32(m[0]), GID: be32(m[1]), Mode: be32(m[2]), Xattrs: xattrs}, nil
}

// readXattrs reads an a(ayay) in normal form. A name ends in NUL, the only one in
// it, and is neither empty nor a duplicate. Names need not be sorted: libostree
// before 2024.10 wrote them as they came. The result shares b's memory.
func readXattrs(b []byte) ([]Xattr, error) {
	a := xattrsType.Elements(b)
	if a.Len() == 0 {
		return nil, nil
	}
	var list []Xattr
	seen, room := map[string]bool{}, maxXattrNames
	for i := range a.Len() {
		var m [2][]byte
		a.Members(i, m[:])
		name, err := xattrName(m[0])
		if err != nil {
			return nil, err
		}
		if room -= len(m[0]); room < 0 {
			return nil, fmt.Errorf("the names of its xattrs take more than %d bytes", maxXattrNames)
		}
		if err := checkXattrSize(name, m[1]); err != nil {
			return nil, err
		}
		if seen[string(name)] {
			return nil, fmt.Errorf("duplicate xattr %q", clip(string(name)))
		}
		seen[string(name)] = true
		list = append(list, Xattr{Name: name, Value: m[1]})
	}
	return list, nil
}

func checkXattrSize(name, value []byte) error {
	if len(name) > maxXattrName {
		return unfitError(fmt.Sprintf("the name of its xattr %q has %d bytes, and a file system takes %d", clip(string(name)), len(name), maxXattrName))
	}
	if len(value) > maxXattrValue {
		return unfitError(fmt.Sprintf("its xattr %q has %d bytes, and a file system takes %d", clip(string(name)), len(value), maxXattrValue))
	}
	return nil
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

// be32 and be64 read integers as libostree stores them: big endian, whatever the
// machine.
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

// writeXattrs serialises an a(ayay).
func writeXattrs(list []Xattr) []byte {
	elems := make([][]byte, len(list))
	for i, x := range list {
		e := append(bytes.Clone(x.Name), 0)
		name := len(e)
		e = append(e, x.Value...)
		elems[i] = gvariant.AppendOffsets(e, len(e), name)
	}
	return gvariant.WriteArray(1, elems)
}
