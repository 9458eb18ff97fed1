// SPDX-License-Identifier: AGPL-3.0-or-later

package gvariant

import (
	"bufio"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// TestNormalAsGLib compares verdicts with those of GLib's
// g_variant_is_normal_form on random values and damaged ones. Each line of the
// table is a type, the bytes in hex ("-" for none) and GLib's verdict: 1 normal,
// 0 not, 2 normal, although GLib itself would write other bytes (an empty tuple
// that lacks its framing offsets); Normal refuses those too.
func TestNormalAsGLib(t *testing.T) {
	f, err := os.Open("testdata/normal.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, wrong := 0, 0
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for ; s.Scan(); lines++ {
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		field := strings.Fields(s.Text())
		b, err := hex.DecodeString(strings.Trim(field[1], "-"))
		if err != nil {
			t.Fatal(err)
		}
		typ, ok := Parse(field[0])
		if !ok {
			t.Fatalf("type %s is not known", field[0])
		}
		if got, want := typ.Normal(b), field[2] == "1"; got != want {
			t.Errorf("Normal(%s, %x) = %v, GLib says %v", field[0], b, got, want)
			if wrong++; wrong > 20 {
				t.FailNow()
			}
		}
	}
	if lines < 500 {
		t.Errorf("only %d lines", lines)
	}
}

// TestTypeStrings pins which type strings a variant may have.
func TestTypeStrings(t *testing.T) {
	for s, ok := range map[string]bool{
		"y": true, "a{sv}": true, "(a{sv}aya(say)sstayay)": true, "()": true, "mma(sv)": true, "{sv}": true,
		strings.Repeat("a", 63) + "y": true, strings.Repeat("(", 62) + "yy" + strings.Repeat(")", 62): true,
		"": false, "r": false, "*": false, "?": false, "a": false, "m": false, "(": false, ")": false, "(y": false,
		"{vs}": false, "{s}": false, "{sss}": false, "{": false, "{s": false, "{sv": false, "a{": false, "yy": false,
		strings.Repeat("a", 64) + "y": false, strings.Repeat("(", 100_000): false, strings.Repeat("y", 100_000): false,
		"(" + strings.Repeat("y", maxTypeString) + ")": false,
	} {
		if _, got := Parse(s); got != ok {
			t.Errorf("Parse(%.120q) = %v", s, got)
		}
	}
}

// TestLargeHostileValues pins that checking is linear in the input. If it were
// not, these values of 10 MiB would take minutes and the test would time out.
func TestLargeHostileValues(t *testing.T) {
	zeros := make([]byte, 10<<20)
	variants := make([][]byte, 100_000)
	for i := range variants {
		variants[i] = WriteVariant(strings.Repeat("a", 60)+"y", nil)
	}
	wrapped := func(s string) string { return "a" + strings.Repeat("(", 55) + s + strings.Repeat(")", 55) }
	for _, tt := range []struct {
		typ string
		b   []byte
	}{
		{"ab", zeros},
		{wrapped("b"), zeros},
		{wrapped("as"), zeros},
		{"a" + strings.Repeat("m", 55) + "as", zeros},
		{strings.Repeat("a", 60) + "s", zeros},
		{"av", WriteArray(8, variants)},
	} {
		typ, ok := Parse(tt.typ)
		if !ok || !typ.Normal(tt.b) {
			t.Errorf("a value of type %s is refused", tt.typ)
		}
	}
}
