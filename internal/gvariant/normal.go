// SPDX-License-Identifier: AGPL-3.0-or-later

package gvariant

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Normal reports whether b is the normal form of a value of type t. The rules are
// those of the GVariant specification (Alexander Larsson and Ryan Lortie), checked
// against GLib's g_variant_is_normal_form.
func (t *Type) Normal(b []byte) bool { return normalAt(t, b, 0) }

func normalAt(t *Type, b []byte, depth int) bool {
	if depth >= maxNesting {
		return false
	}
	if t.fixed != 0 && len(b) != t.fixed {
		return false
	}
	if t.any {
		return true
	}
	switch t.kind {
	case 'b':
		return b[0] < 2
	case 's':
		return isString(b)
	case 'o':
		return isString(b) && isObjectPath(b[:len(b)-1])
	case 'g':
		return isString(b) && isSignature(string(b[:len(b)-1]))
	case 'm':
		return normalMaybe(t, b, depth)
	case 'a':
		return normalArray(t, b, depth)
	case '(':
		return normalTuple(t, b, depth)
	case 'v':
		return normalVariant(b, depth)
	}
	return false
}

func normalMaybe(t *Type, b []byte, depth int) bool {
	switch {
	case len(b) == 0:
		return true
	case t.elem.fixed != 0:
		return normalAt(t.elem, b, depth+1)
	}
	last := len(b) - 1
	return b[last] == 0 && normalAt(t.elem, b[:last], depth+1)
}

func normalArray(t *Type, b []byte, depth int) bool {
	if t.elem.fixed == 0 {
		return normalVariableArray(t, b, depth)
	}
	size := t.elem.fixed
	if len(b)%size != 0 {
		return false
	}
	if t.elem.any {
		return true
	}
	for ; len(b) > 0; b = b[size:] {
		if !normalAt(t.elem, b[:size], depth+1) {
			return false
		}
	}
	return true
}

func normalVariableArray(t *Type, b []byte, depth int) bool {
	if len(b) == 0 {
		return true
	}
	a, ok := openArray(t, b)
	if !ok || a.Len() == 0 || framedSize(len(a.body), a.Len()) != len(b) {
		return false
	}
	pos := 0
	for i := range a.Len() {
		end := a.end(i)
		start := alignUp(pos, t.elem.align)
		if end < start || end > len(a.body) || !allZero(b[pos:start]) {
			return false
		}
		if !normalAt(t.elem, b[start:end], depth+1) {
			return false
		}
		pos = end
	}
	return true
}

func normalTuple(t *Type, b []byte, depth int) bool {
	if len(t.members) == 0 {
		return b[0] == 0
	}
	width := offsetWidth(len(b))
	pos, tail, offsets := 0, len(b), 0
	for i, m := range t.members {
		start := alignUp(pos, m.align)
		if start > tail || !allZero(b[pos:start]) {
			return false
		}
		end := start + m.fixed
		switch {
		case m.fixed != 0:
		case i == len(t.members)-1:
			end = tail
		case tail-start < width || width == 0:
			return false
		default:
			tail -= width
			offsets++
			end = readOffset(b[tail:], width)
		}
		if end < start || end > tail || !normalAt(m, b[start:end], depth+1) {
			return false
		}
		pos = end
	}
	if t.fixed != 0 {
		return allZero(b[pos:])
	}
	return pos == tail && framedSize(pos, offsets) == len(b)
}

func normalVariant(b []byte, depth int) bool {
	t, value, ok := splitVariant(b)
	return ok && normalAt(t, value, depth+1)
}

// splitVariant finds a variant's value and its type, which follows the last NUL.
func splitVariant(b []byte) (t *Type, value []byte, ok bool) {
	nul := bytes.LastIndexByte(b, 0)
	if nul < 0 || len(b)-nul > maxTypeString {
		return nil, nil, false
	}
	t, ok = Parse(string(b[nul+1:]))
	return t, b[:nul], ok
}

// isString reports whether b is UTF-8 and ends in NUL, the only one in it.
func isString(b []byte) bool {
	last := len(b) - 1
	return last >= 0 && bytes.IndexByte(b, 0) == last && utf8.Valid(b[:last])
}

func isObjectPath(s []byte) bool {
	if len(s) == 0 || s[0] != '/' {
		return false
	}
	if len(s) == 1 {
		return true
	}
	for i := 1; i < len(s); i++ {
		if s[i] == '/' && s[i-1] == '/' || s[i] != '/' && !inObjectPath(s[i]) {
			return false
		}
	}
	return s[len(s)-1] != '/'
}

func inObjectPath(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// isSignature reports whether s is a sequence of types that D-Bus knows: it has no
// maybe types.
func isSignature(s string) bool {
	if len(s) > maxTypeString || strings.Contains(s, "m") {
		return false
	}
	for s != "" {
		_, rest, ok := scanType(s, 0)
		if !ok {
			return false
		}
		s = rest
	}
	return true
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// offsetWidth is the size of a framing offset in a container of n bytes.
func offsetWidth(n int) int {
	switch {
	case n == 0:
		return 0
	case n <= 0xff:
		return 1
	case n <= 0xffff:
		return 2
	case n <= 0xffffffff:
		return 4
	}
	return 8
}

// framedSize is the size of a container with a body of that many bytes and with
// that many offsets, which take the narrowest width that can count all of it.
func framedSize(body, offsets int) int {
	for _, w := range []struct{ width, most int }{{1, 0xff}, {2, 0xffff}, {4, 0xffffffff}} {
		if n := body + w.width*offsets; n <= w.most {
			return n
		}
	}
	return body + 8*offsets
}

// readOffset reads a little-endian framing offset. The result is -1 if the offset
// is larger than a slice can be.
func readOffset(b []byte, width int) int {
	var v uint64
	for i := width - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	if v > 1<<62 {
		return -1
	}
	return int(v)
}
