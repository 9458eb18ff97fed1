// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import "encoding/binary"

// gvArray is an array of variable-sized elements, opened for reading.
type gvArray struct {
	elem  *gvType
	body  []byte // the elements with their padding
	ends  []byte // the framing offsets
	width int
}

// openArray finds the framing offsets of a non-empty array's serialisation b;
// ok is false if they cannot be. It does not look at the elements.
func openArray(t *gvType, b []byte) (a gvArray, ok bool) {
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

// len is the number of elements.
func (a *gvArray) len() int {
	if a.width == 0 {
		return 0
	}
	return len(a.ends) / a.width
}

func (a *gvArray) end(i int) int { return readOffset(a.ends[i*a.width:], a.width) }

// at returns element i of an array in normal form.
func (a *gvArray) at(i int) []byte {
	start := 0
	if i > 0 {
		start = alignUp(a.end(i-1), a.elem.align)
	}
	return a.body[start:a.end(i)]
}

// members cuts a tuple in normal form into the bytes of its members, which it
// puts into out; that must be as long as the tuple.
func members(t *gvType, b []byte, out [][]byte) {
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

// str is a string without its NUL.
func str(b []byte) string { return string(b[:len(b)-1]) }

// be32 and be64 read integers as libostree stores them: big endian, whatever
// the machine.
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

// gvItem is one entry of an a{sv}: its key, and the variant as serialised.
type gvItem struct {
	key   string
	value []byte
}

// readDict lists the entries of an a{sv} in normal form.
func readDict(b []byte) []gvItem {
	a, _ := openArray(dictType, b)
	items := make([]gvItem, a.len())
	for i := range items {
		var kv [2][]byte
		members(dictType.elem, a.at(i), kv[:])
		items[i] = gvItem{key: str(kv[0]), value: kv[1]}
	}
	return items
}

// ofType returns the value of a variant if it is of that type.
func ofType(variant []byte, typ string) ([]byte, bool) {
	n := len(variant) - len(typ)
	if n < 1 || string(variant[n:]) != typ || variant[n-1] != 0 {
		return nil, false
	}
	return variant[:n-1], true
}

var (
	dictType       = mustGVType("a{sv}")
	stringsType    = mustGVType("as")
	bytesListType  = mustGVType("aay")
	commitType     = mustGVType("(a{sv}aya(say)sstayay)")
	treeType       = mustGVType("(a(say)a(sayay))")
	metaType       = mustGVType("(uuua(ayay))")
	fileHeaderType = mustGVType("(tuuuusa(ayay))")
	xattrsType     = mustGVType("a(ayay)")
)
