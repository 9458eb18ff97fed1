// SPDX-License-Identifier: AGPL-3.0-or-later

package gvariant

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// FuzzNormal pins what a normal form is: whatever Normal accepts can be read
// without a panic, and is written again as the same bytes.
func FuzzNormal(f *testing.F) {
	table, err := os.Open("testdata/normal.txt")
	if err != nil {
		f.Fatal(err)
	}
	defer table.Close()
	s := bufio.NewScanner(table)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		field := strings.Fields(s.Text())
		if b, err := hex.DecodeString(strings.Trim(field[1], "-")); err == nil {
			f.Add(field[0], b)
		}
	}
	f.Fuzz(func(t *testing.T, s string, b []byte) {
		typ, ok := Parse(s)
		if !ok || !typ.Normal(b) {
			return
		}
		if got := rewrite(typ, b); !bytes.Equal(got, b) {
			t.Errorf("%s: %x is written as %x", s, b, got)
		}
	})
}

// rewrite reads a value in normal form and serialises it again.
func rewrite(t *Type, b []byte) []byte {
	switch {
	case t.fixed != 0 && t.kind != '(':
		return b
	case t.kind == 's' || t.kind == 'o' || t.kind == 'g':
		return append([]byte(String(b)), 0)
	case t.kind == 'v':
		inner, value, _ := splitVariant(b)
		typ := string(b[len(value)+1:])
		if held, ok := Value(b, typ); !ok || !bytes.Equal(held, value) {
			return nil
		}
		return WriteVariant(typ, rewrite(inner, value))
	case t.kind == 'm':
		return rewriteMaybe(t, b)
	case t.kind == 'a' && t.elem.fixed != 0:
		var out []byte
		for size := t.elem.fixed; len(b) > 0; b = b[size:] {
			out = append(out, rewrite(t.elem, b[:size])...)
		}
		return out
	case t.kind == 'a':
		return rewriteArray(t, b)
	}
	return rewriteTuple(t, b)
}

func rewriteMaybe(t *Type, b []byte) []byte {
	switch {
	case len(b) == 0:
		return nil
	case t.elem.fixed != 0:
		return rewrite(t.elem, b)
	}
	return append(rewrite(t.elem, b[:len(b)-1]), 0)
}

func rewriteArray(t *Type, b []byte) []byte {
	a := t.Elements(b)
	elems := make([][]byte, a.Len())
	for i := range elems {
		elems[i] = rewrite(t.elem, a.At(i))
	}
	return WriteArray(t.elem.align+1, elems)
}

func rewriteTuple(t *Type, b []byte) []byte {
	if len(t.members) == 0 {
		return []byte{0}
	}
	members := make([][]byte, len(t.members))
	t.Members(b, members)
	var out []byte
	var ends []int // the last member's first
	for i, m := range t.members {
		out = append(pad(out, m.align+1), rewrite(m, members[i])...)
		if m.fixed == 0 && i < len(members)-1 {
			ends = append([]int{len(out)}, ends...)
		}
	}
	if t.fixed != 0 {
		return pad(out, t.align+1)
	}
	return AppendOffsets(out, len(out), ends...)
}
