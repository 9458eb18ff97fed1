// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

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
// 0 not, 2 normal by its word although GLib itself would write other bytes (an
// empty tuple that lacks its framing offsets); we refuse those too.
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
		typ, ok := parseGVType(field[0])
		if !ok {
			t.Fatalf("type %s is not known", field[0])
		}
		if got, want := normal(typ, b), field[2] == "1"; got != want {
			t.Errorf("normal(%s, %x) = %v, GLib says %v", field[0], b, got, want)
			if wrong++; wrong > 20 {
				t.FailNow()
			}
		}
	}
	if lines < 500 {
		t.Errorf("only %d lines", lines)
	}
}
