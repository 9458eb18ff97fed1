// SPDX-License-Identifier: AGPL-3.0-or-later

// Package objects builds OSTree objects byte by byte, sound ones and such as
// libostree would never write. It knows nothing of the code that it helps to
// test, so that the two cannot be wrong together. Only tests and tools import it.
package objects

import "encoding/binary"

// Value is a serialised GVariant value. It carries what the container around it
// must know: its alignment less one, and whether its size is fixed.
type Value struct {
	Bytes []byte
	align int
	fixed bool
}

// U32 is a "u", big endian as in OSTree's objects.
func U32(v uint32) Value { return Value{binary.BigEndian.AppendUint32(nil, v), 3, true} }

// U64 is a "t", big endian.
func U64(v uint64) Value { return Value{binary.BigEndian.AppendUint64(nil, v), 7, true} }

// Str is an "s".
func Str(s string) Value { return Value{append([]byte(s), 0), 0, false} }

// Bytes is an "ay".
func Bytes(b ...byte) Value { return Value{b, 0, false} }

// Raw is a value of varying size that was serialised elsewhere, or is none.
func Raw(b []byte) Value { return Value{b, 0, false} }

// Tuple is a tuple of which at least one member varies in size.
func Tuple(members ...Value) Value {
	var b []byte
	var ends []int
	align := 0
	for i, v := range members {
		align = max(align, v.align)
		b = append(padded(b, v.align), v.Bytes...)
		if !v.fixed && i < len(members)-1 {
			ends = append([]int{len(b)}, ends...)
		}
	}
	return Value{framed(b, ends), align, false}
}

// Array is an array of elements that vary in size, of any type but variants and
// what holds them.
func Array(elems ...Value) Value { return array(0, elems) }

func array(align int, elems []Value) Value {
	var b []byte
	var ends []int
	for _, e := range elems {
		b = append(padded(b, align), e.Bytes...)
		ends = append(ends, len(b))
	}
	return Value{framed(b, ends), align, false}
}

// Variant is a "v" that holds a value of a type.
func Variant(typ string, v Value) Value {
	b := append(append([]byte{}, v.Bytes...), 0)
	return Value{append(b, typ...), 7, false}
}

// DeepVariant is a variant within that many others.
func DeepVariant(levels int) Value {
	v := Variant("y", Bytes(1))
	for range levels {
		v = Variant("v", v)
	}
	return v
}

// Item is one entry of a Dict.
func Item(key, typ string, v Value) Value { return Tuple(Str(key), Variant(typ, v)) }

// Dict is an "a{sv}".
func Dict(items ...Value) Value { return array(7, items) }

// Xattrs is an "a(ayay)" of names, which should end in NUL, and values.
func Xattrs(pairs ...string) Value {
	var list []Value
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, Tuple(Raw([]byte(pairs[i])), Raw([]byte(pairs[i+1]))))
	}
	return Array(list...)
}

// padded fills b with zeros up to an alignment.
func padded(b []byte, align int) []byte {
	for len(b)&align != 0 {
		b = append(b, 0)
	}
	return b
}

// framed appends framing offsets in the narrowest width that can tell the size
// of the whole.
func framed(b []byte, ends []int) []byte {
	width := 1
	for len(b)+width*len(ends) >= 1<<(8*width) {
		width *= 2
	}
	for _, e := range ends {
		b = append(b, binary.LittleEndian.AppendUint64(nil, uint64(e))[:width]...)
	}
	return b
}
