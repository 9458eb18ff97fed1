// SPDX-License-Identifier: AGPL-3.0-or-later

package gvariant

// AppendOffsets appends the framing offsets of a container whose body, of that
// length, was just appended to dst. They get the narrowest width that can count
// all of the container.
func AppendOffsets(dst []byte, body int, offsets ...int) []byte {
	if len(offsets) == 0 {
		return dst
	}
	width := (framedSize(body, len(offsets)) - body) / len(offsets)
	for _, o := range offsets {
		dst = appendOffset(dst, o, width)
	}
	return dst
}

// appendOffset appends one framing offset, little endian.
func appendOffset(dst []byte, n, width int) []byte {
	for range width {
		dst = append(dst, byte(n))
		n >>= 8
	}
	return dst
}

// WriteArray serialises an array of variable-sized elements that start at
// multiples of align bytes: 1, 2, 4 or 8.
func WriteArray(align int, elems [][]byte) []byte {
	var b []byte
	ends := make([]int, len(elems))
	for i, e := range elems {
		b = append(pad(b, align), e...)
		ends[i] = len(b)
	}
	return AppendOffsets(b, len(b), ends...)
}

// pad appends zeros up to a multiple of align bytes.
func pad(b []byte, align int) []byte {
	for len(b)%align != 0 {
		b = append(b, 0)
	}
	return b
}

// WriteDict serialises an a{sv}.
func WriteDict(entries []Entry) []byte {
	elems := make([][]byte, len(entries))
	for i, entry := range entries {
		e := append([]byte(entry.Key), 0)
		key := len(e)
		e = append(pad(e, 8), entry.Value...)
		elems[i] = AppendOffsets(e, len(e), key)
	}
	return WriteArray(8, elems)
}

// WriteVariant makes a variant of a value of the type typ.
func WriteVariant(typ string, value []byte) []byte {
	b := make([]byte, 0, len(value)+1+len(typ))
	b = append(b, value...)
	b = append(b, 0)
	return append(b, typ...)
}
