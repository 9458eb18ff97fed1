// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

// appendOffset writes a little-endian framing offset.
func appendOffset(dst []byte, n, width int) []byte {
	for range width {
		dst = append(dst, byte(n))
		n >>= 8
	}
	return dst
}

// appendOffsets writes framing offsets behind a body of that length, in the
// narrowest width that does.
func appendOffsets(dst []byte, body int, offsets []int) []byte {
	if len(offsets) == 0 {
		return dst
	}
	width := (framedSize(body, len(offsets)) - body) / len(offsets)
	for _, o := range offsets {
		dst = appendOffset(dst, o, width)
	}
	return dst
}

// writeArray serialises an array of variable-sized elements.
func writeArray(align int, elems [][]byte) []byte {
	var b []byte
	ends := make([]int, len(elems))
	for i, e := range elems {
		b = append(b, make([]byte, alignUp(len(b), align)-len(b))...)
		b = append(b, e...)
		ends[i] = len(b)
	}
	return appendOffsets(b, len(b), ends)
}

// writeDict serialises an a{sv}.
func writeDict(items []gvItem) []byte {
	entries := make([][]byte, len(items))
	for i, it := range items {
		e := append([]byte(it.key), 0)
		key := len(e)
		e = append(e, make([]byte, alignUp(key, 7)-key)...)
		e = append(e, it.value...)
		entries[i] = appendOffsets(e, len(e), []int{key})
	}
	return writeArray(7, entries)
}

// writeVariant makes a variant of a value's serialisation.
func writeVariant(typ string, value []byte) []byte {
	b := make([]byte, 0, len(value)+1+len(typ))
	b = append(b, value...)
	b = append(b, 0)
	return append(b, typ...)
}
