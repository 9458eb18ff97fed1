// SPDX-License-Identifier: AGPL-3.0-or-later

package gvariant

// Array is an array of variable-sized elements, opened for reading in place.
type Array struct {
	elem  *Type
	body  []byte // the elements with their padding
	ends  []byte // the framing offsets
	width int    // of a framing offset
}

// Elements opens an array of variable-sized elements.
func (t *Type) Elements(b []byte) Array {
	a, _ := openArray(t, b)
	return a
}

// openArray finds the framing offsets at the end of an array's serialisation b;
// ok is false if there cannot be any. It does not look at the elements.
func openArray(t *Type, b []byte) (a Array, ok bool) {
	a.elem, a.width = t.elem, offsetWidth(len(b))
	if len(b) == 0 {
		return a, true
	}
	body := readOffset(b[len(b)-a.width:], a.width)
	if body < 0 || body > len(b)-a.width || (len(b)-body)%a.width != 0 {
		return a, false
	}
	a.body, a.ends = b[:body], b[body:]
	return a, true
}

// Len is the number of elements.
func (a *Array) Len() int {
	if a.width == 0 {
		return 0
	}
	return len(a.ends) / a.width
}

func (a *Array) end(i int) int { return readOffset(a.ends[i*a.width:], a.width) }

// At returns element i.
func (a *Array) At(i int) []byte {
	start := 0
	if i > 0 {
		start = alignUp(a.end(i-1), a.elem.align)
	}
	return a.body[start:a.end(i)]
}

// Members cuts element i, which must be a tuple, into its members.
func (a *Array) Members(i int, out [][]byte) { a.elem.Members(a.At(i), out) }

// Members cuts a tuple into the bytes of its members and puts them into out,
// which must be as long as the tuple.
func (t *Type) Members(b []byte, out [][]byte) {
	width := offsetWidth(len(b))
	pos, tail := 0, len(b)
	for i, m := range t.members {
		start := alignUp(pos, m.align)
		switch {
		case m.fixed != 0:
			pos = start + m.fixed
		case i == len(t.members)-1:
			pos = tail
		default:
			tail -= width
			pos = readOffset(b[tail:], width)
		}
		out[i] = b[start:pos]
	}
}

// String is the text of a string's serialisation: all but its NUL.
func String(b []byte) string { return string(b[:len(b)-1]) }

// Entry is one entry of an a{sv}: its key, and the variant as it is serialised.
type Entry struct {
	Key   string
	Value []byte
}

var dictType = MustParse("a{sv}")

// Dict lists the entries of an a{sv}, in their order.
func Dict(b []byte) []Entry {
	a := dictType.Elements(b)
	entries := make([]Entry, a.Len())
	for i := range entries {
		var kv [2][]byte
		a.Members(i, kv[:])
		entries[i] = Entry{Key: String(kv[0]), Value: kv[1]}
	}
	return entries
}

// Value returns what a variant holds, if that is of the type typ.
func Value(variant []byte, typ string) (value []byte, ok bool) {
	n := len(variant) - len(typ)
	if n < 1 || string(variant[n:]) != typ || variant[n-1] != 0 {
		return nil, false
	}
	return variant[:n-1], true
}
