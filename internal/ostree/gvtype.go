// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import "strings"

// Bounds of GVariant types. GLib nests to 128; nothing that libostree or its
// users write comes near 64, and a bound keeps the stack small. A type string is
// compiled to about 100 times its size, so its length is bounded too.
const (
	maxNesting    = 64
	maxTypeString = 64 << 10
)

// gvType is a compiled GVariant type.
type gvType struct {
	kind    byte      // first character of the type string; '(' also for dict entries
	align   int       // alignment less one: 0, 1, 3 or 7
	fixed   int       // size in bytes, 0 if it varies
	any     bool      // fixed size, and every byte pattern is in normal form
	elem    *gvType   // of 'a' and 'm'
	members []*gvType // of '('
}

// parseGVType compiles one definite type string; ok is false if it is none, or
// beyond the bounds.
func parseGVType(s string) (t *gvType, ok bool) {
	if len(s) > maxTypeString {
		return nil, false
	}
	if t := commonTypes[s]; t != nil {
		return t, true
	}
	t, rest, ok := scanGVType(s, 0)
	if !ok || rest != "" {
		return nil, false
	}
	return t, true
}

// commonTypes saves compiling what stands in nearly every variant.
var commonTypes = func() map[string]*gvType {
	m := map[string]*gvType{}
	for _, s := range []string{"s", "b", "t", "u", "y", "ay", "as", "aay", "aya{sv}", "a{sv}", "a(uay)", "aa{sv}"} {
		if t, rest, ok := scanGVType(s, 0); ok && rest == "" {
			m[s] = t
		}
	}
	return m
}()

func mustGVType(s string) *gvType {
	t, rest, ok := scanGVType(s, 0)
	if !ok || rest != "" {
		panic("not a type: " + s)
	}
	return t
}

var basicTypes = map[byte]*gvType{
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

var variantType = &gvType{kind: 'v', align: 7}

// scanGVType compiles the type at the start of s and returns what follows it.
func scanGVType(s string, depth int) (*gvType, string, bool) {
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
		elem, rest, ok := scanGVType(s[1:], depth+1)
		if !ok {
			return nil, "", false
		}
		return &gvType{kind: s[0], align: elem.align, elem: elem}, rest, true
	case '(':
		return scanTuple(s[1:], depth)
	case '{':
		return scanDictEntry(s[1:], depth)
	}
	return nil, "", false
}

func scanTuple(s string, depth int) (*gvType, string, bool) {
	t := &gvType{kind: '('}
	for !strings.HasPrefix(s, ")") {
		m, rest, ok := scanGVType(s, depth+1)
		if !ok {
			return nil, "", false
		}
		t.members = append(t.members, m)
		s = rest
	}
	if len(t.members) == 1 {
		// It is serialised as its member is. Taking one for the other keeps
		// an array of deeply wrapped bytes from costing 64 steps a byte.
		return t.members[0], s[1:], true
	}
	t.measure()
	return t, s[1:], true
}

func scanDictEntry(s string, depth int) (*gvType, string, bool) {
	if s == "" || !strings.Contains("bynqihuxtdsog", s[:1]) {
		return nil, "", false
	}
	key := basicTypes[s[0]]
	value, rest, ok := scanGVType(s[1:], depth+1)
	if !ok || !strings.HasPrefix(rest, "}") {
		return nil, "", false
	}
	t := &gvType{kind: '(', members: []*gvType{key, value}}
	t.measure()
	return t, rest[1:], true
}

// measure sets a tuple's alignment and size from its members.
func (t *gvType) measure() {
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
