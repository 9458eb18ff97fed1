// SPDX-License-Identifier: AGPL-3.0-or-later

// Package ostree is the OSTree object model in plain Go: names, strict views of
// metadata objects, verification of objects in archive form, and a reader for
// source repositories of any mode.
//
//   - Bytes may come from an enemy: no parser here panics, recurses without
//     bound, or needs more memory than a small multiple of its input.
//   - What a Parse function returns was in the normal form of its GVariant type
//     and kept the rules of its object type; there is no lenient variant.
//   - Content is "filez", the archive form, wherever objects leave this package.
//
// Sizes are bytes. Integers inside objects are big endian on disk and plain Go
// values here. Values are plain data; a Repo may be used by many goroutines, a
// Verifier by one at a time.
package ostree

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Limits of metadata objects.
const (
	MaxMetadata    = 128 << 20 // the most that a newer libostree pulls
	CommonMetadata = 10 << 20  // what every libostree pulls
	MaxCommitMeta  = 1 << 20
	maxFilezHeader = CommonMetadata
)

// Type is the type of an object, numbered as libostree's OstreeObjectType.
type Type uint8

// The types of object that a push may carry.
const (
	File         Type = 1
	DirTree      Type = 2
	DirMeta      Type = 3
	CommitObject Type = 4
	CommitMeta   Type = 6
)

// String is the suffix of the object's file in an archive repository.
func (t Type) String() string {
	switch t {
	case File:
		return "filez"
	case DirTree:
		return "dirtree"
	case DirMeta:
		return "dirmeta"
	case CommitObject:
		return "commit"
	case CommitMeta:
		return "commitmeta"
	}
	return fmt.Sprintf("type-%d", uint8(t))
}

// Valid reports whether t is one of the types above.
func (t Type) Valid() bool {
	switch t {
	case File, DirTree, DirMeta, CommitObject, CommitMeta:
		return true
	}
	return false
}

func parseType(s string) (Type, bool) {
	switch s {
	case "filez":
		return File, true
	case "dirtree":
		return DirTree, true
	case "dirmeta":
		return DirMeta, true
	case "commit":
		return CommitObject, true
	case "commitmeta":
		return CommitMeta, true
	}
	return 0, false
}

// Checksum is the SHA-256 that names an object.
type Checksum [32]byte

// ParseChecksum takes exactly 64 lower-case hex digits.
func ParseChecksum(s string) (Checksum, error) {
	var c Checksum
	if !isHex64(s) {
		return c, fmt.Errorf("%q is not a checksum of 64 lower-case hex digits", clip(s))
	}
	_, err := hex.Decode(c[:], []byte(s))
	return c, err
}

func isHex64(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// String is the 64 hex digits.
func (c Checksum) String() string { return hex.EncodeToString(c[:]) }

// Name names one object.
type Name struct {
	Checksum Checksum
	Type     Type
}

// ParseName takes "<64 lower-case hex digits>.<type>", the type as Type.String
// writes it.
func ParseName(s string) (Name, error) {
	if len(s) < 66 || s[64] != '.' || !isHex64(s[:64]) {
		return Name{}, fmt.Errorf("%q is not an object name of the form <64 hex>.<type>", clip(s))
	}
	t, ok := parseType(s[65:])
	if !ok {
		return Name{}, fmt.Errorf("object name %q has an unknown type", clip(s))
	}
	n := Name{Type: t}
	_, err := hex.Decode(n.Checksum[:], []byte(s[:64]))
	return n, err
}

// String is "<64 hex digits>.<type>".
func (n Name) String() string { return n.Checksum.String() + "." + n.Type.String() }

// Path is where an archive repository keeps the object, below objects/: "ab/cd….filez".
func (n Name) Path() string { return loosePath(n, n.Type.String()) }

func loosePath(n Name, suffix string) string { return string(appendLoosePath(nil, n, suffix)) }

func appendLoosePath(b []byte, n Name, suffix string) []byte {
	b = hex.AppendEncode(b, n.Checksum[:1])
	b = append(b, '/')
	b = hex.AppendEncode(b, n.Checksum[1:])
	b = append(b, '.')
	return append(b, suffix...)
}

// Compare orders names by checksum, then by type.
func (n Name) Compare(m Name) int {
	if c := bytes.Compare(n.Checksum[:], m.Checksum[:]); c != 0 {
		return c
	}
	return int(n.Type) - int(m.Type)
}

// clip keeps what a stranger sent from filling an error message.
func clip(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// BadObjectError says why bytes are not the object that they claim to be.
type BadObjectError struct {
	Object Name
	Reason string // in words, such as "size says 10, content has 12 bytes"
	Unfit  bool   // it has its form, but no file system can hold it
}

func (e *BadObjectError) Error() string {
	return fmt.Sprintf("object %s is bad: %s", e.Object, e.Reason)
}

// A LimitError says that an object is what it claims to be, and has more of
// something than can be pushed.
type LimitError struct {
	Object Name
	Reason string
}

func (e *LimitError) Error() string { return fmt.Sprintf("object %s: %s", e.Object, e.Reason) }

// unfit is the error of an object that a parser refused.
func unfit(n Name, err error) error {
	var limit unfitError
	if errors.As(err, &limit) {
		return &LimitError{Object: n, Reason: string(limit)}
	}
	return &BadObjectError{Object: n, Reason: err.Error()}
}

// An UnreadableError says why this user cannot read an object that root can, and
// that may be sound.
type UnreadableError struct {
	Object Name
	Reason string
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("object %s cannot be read: %s", e.Object, e.Reason)
}
