// SPDX-License-Identifier: AGPL-3.0-or-later

// Package gvariant knows GVariant, the format of OSTree's metadata, in its normal
// form: the one serialisation that GLib would write of a value.
//
//   - Normal accepts no bytes that g_variant_is_normal_form refuses. It refuses
//     more in two cases: values that nest deeper than 64 levels (GLib: 128), and
//     an empty tuple that needs framing offsets and has none.
//   - Normal takes any bytes: it does not panic, its time is linear in their
//     number, and its memory is a small multiple of the types that they name.
//   - All that reads (Elements, Members, String, Dict, Value) takes only what
//     Normal has accepted for that type, and may panic on other bytes. It copies
//     nothing but strings: results share memory with the input.
//   - What is written is in normal form if its parts are.
//
// Integers stay as they are serialised: OSTree stores them big endian, whatever
// GVariant says. Positions and sizes are bytes. A Type does not change and may be
// shared by goroutines.
package gvariant

import "strings"

// Bounds of types. GLib nests to 128 levels; nothing that libostree or its users
// write comes near 64, and a bound keeps the stack small. A compiled type is about
// 100 times as large as its string, so the string's length is bounded too.
const (
	maxNesting    = 64
	maxTypeString = 64 << 10
)

// Type is a compiled type. Parse and MustParse make it.
type Type struct {
	kind    byte    // first character of the type string; '(' also for dict entries
	align   int     // alignment less one: 0, 1, 3 or 7
	fixed   int     // size in bytes, 0 if it varies
	any     bool    // fixed size, and every byte pattern is in normal form
	elem    *Type   // of 'a' and 'm'
	members []*Type // of '('
}

// Parse compiles one definite type string. ok is false if s is not one, is
// longer than 64 KiB or nests too deep.
func Parse(s string) (t *Type, ok bool) {
	if len(s) > maxTypeString {
		return nil, false
	}
	if t := commonTypes[s]; t != nil {
		return t, true
	}
	t, rest, ok := scanType(s, 0)
	if !ok || rest != "" {
		return nil, false
	}
	return t, true
}

// commonTypes holds the types of nearly all variants, so that these need not be
// compiled each time.
var commonTypes = func() map[string]*Type {
	m := map[string]*Type{}
	for _, s := range []string{"s", "b", "t", "u", "y", "ay", "as", "aay", "aya{sv}", "a{sv}", "a(uay)", "aa{sv}"} {
		if t, rest, ok := scanType(s, 0); ok && rest == "" {
			m[s] = t
		}
	}
	return m
}()

// MustParse compiles a type string of the program's own; it panics if that is
// not one.
func MustParse(s string) *Type {
	t, rest, ok := scanType(s, 0)
	if !ok || rest != "" {
		panic("not a type: " + s)
	}
	return t
}

var basicTypes = map[byte]*Type{
	'b': {kind: 'b', fixed: 1},
	'y': {kind: 'y', fixed: 1, any: true},
	'n': {kind: 'n', fixed: 2, align: 1, any: true},
	'q': {kind: 'q', fixed: 2, align: 1, any: true},
	'i': {kind: 'i', fixed: 4, align: 3, any: true},
	'u': {kind: 'u', fixed: 4, align: 3, any: true},
	'h': {kind: 'h', fixed: 4, align: 3, any: true},
	'x': {kind: 'x', fixed: 8, align: 7, any: true},
	't': {kind: 't', fixed: 8, align: 7, any: true},
	'd': {kind: 'd', fixed: 8, align: 7, any: true},
	's': {kind: 's'},
	'o': {kind: 'o'},
	'g': {kind: 'g'},
}

var variantType = &Type{kind: 'v', align: 7}

// scanType compiles the type at the start of s and returns what follows it.
func scanType(s string, depth int) (*Type, string, bool) {
	if s == "" || depth >= maxNesting {
		return nil, "", false
	}
	if t := basicTypes[s[0]]; t != nil {
		return t, s[1:], true
	}
	switch s[0] {
	case 'v':
		return variantType, s[1:], true
	case 'a', 'm':
		elem, rest, ok := scanType(s[1:], depth+1)
		if !ok {
			return nil, "", false
		}
		return &Type{kind: s[0], align: elem.align, elem: elem}, rest, true
	case '(':
		return scanTuple(s[1:], depth)
	case '{':
		return scanDictEntry(s[1:], depth)
	}
	return nil, "", false
}

func scanTuple(s string, depth int) (*Type, string, bool) {
	t := &Type{kind: '('}
	for !strings.HasPrefix(s, ")") {
		m, rest, ok := scanType(s, depth+1)
		if !ok {
			return nil, "", false
		}
		t.members = append(t.members, m)
		s = rest
	}
	if len(t.members) == 1 {
		// A tuple of one member is serialised as that member. Without this short
		// cut an array of deeply wrapped bytes would cost 64 steps for each byte.
		return t.members[0], s[1:], true
	}
	t.measure()
	return t, s[1:], true
}

func scanDictEntry(s string, depth int) (*Type, string, bool) {
	if s == "" || !strings.Contains("bynqihuxtdsog", s[:1]) {
		return nil, "", false
	}
	key := basicTypes[s[0]]
	value, rest, ok := scanType(s[1:], depth+1)
	if !ok || !strings.HasPrefix(rest, "}") {
		return nil, "", false
	}
	t := &Type{kind: '(', members: []*Type{key, value}}
	t.measure()
	return t, rest[1:], true
}

// measure computes a tuple's alignment and size from its members.
func (t *Type) measure() {
	if len(t.members) == 0 {
		t.fixed = 1 // the unit type is one zero byte
		return
	}
	size, padded, any := 0, false, true
	fixed := true
	for _, m := range t.members {
		t.align = max(t.align, m.align)
		if m.fixed == 0 {
			fixed = false
			continue
		}
		start := alignUp(size, m.align)
		padded = padded || start != size
		size = start + m.fixed
		any = any && m.any
	}
	if fixed {
		t.fixed = alignUp(size, t.align)
		t.any = any && !padded && t.fixed == size
	}
}

func alignUp(n, align int) int { return (n + align) &^ align }
