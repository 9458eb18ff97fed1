// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"strings"
	"testing"
)

var hex64 = strings.Repeat("0123456789abcdef", 4)

// TestParseName pins the one spelling of an object's name.
func TestParseName(t *testing.T) {
	for s, ok := range map[string]bool{
		hex64 + ".filez": true, hex64 + ".dirtree": true, hex64 + ".dirmeta": true,
		hex64 + ".commit": true, hex64 + ".commitmeta": true,
		hex64 + ".file": false, hex64 + ".": false, hex64: false, "": false,
		strings.ToUpper(hex64) + ".filez": false, hex64[1:] + ".filez": false, hex64 + "0.filez": false,
		hex64 + ".filez ": false, " " + hex64 + ".filez": false, hex64 + "/filez": false,
		hex64 + ".FILEZ": false, "../" + hex64[3:] + ".filez": false,
	} {
		n, err := ParseName(s)
		if (err == nil) != ok {
			t.Errorf("ParseName(%q): %v", s, err)
		}
		if ok && n.String() != s {
			t.Errorf("%q became %q", s, n)
		}
	}
	n, _ := ParseName(hex64 + ".filez")
	if want := "01/" + hex64[2:] + ".filez"; n.Path() != want {
		t.Errorf("path %q", n.Path())
	}
}

// TestCompare pins the order: checksum first, then type.
func TestCompare(t *testing.T) {
	sorted := []Name{{Checksum{0}, File}, {Checksum{0}, CommitMeta}, {Checksum{0, 1}, DirTree}, {Checksum{1}, File}}
	for i, a := range sorted {
		for j, b := range sorted {
			if got := a.Compare(b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%v.Compare(%v) = %d", a, b, got)
			}
		}
	}
}

// TestValidateRef pins which refs a server takes.
func TestValidateRef(t *testing.T) {
	for ref, ok := range map[string]bool{
		"a": true, "os/x86_64/stable": true, "_a/b-c.d": true, "a..b": true, "9/8": true,
		"": false, "/a": false, "a/": false, "a//b": false, ".a": false, "a/.b": false, "..": false,
		"a/../b": false, "-a": false, "a b": false, "a\x00": false, "a\n": false, "ä": false, "a:b": false, `a\b`: false, "a^": false,
		hex64: false, hex64 + "/a": true, "a/" + hex64: true,
		strings.Repeat("a", 200): true, strings.Repeat("a", 201): false,
		strings.Repeat("a/", 2000) + "a": false,
	} {
		if err := ValidateRef(ref); (err == nil) != ok {
			t.Errorf("ValidateRef(%q): %v", clip(ref), err)
		}
	}
}

// TestConflictingRef pins that a ref cannot be a folder of another.
func TestConflictingRef(t *testing.T) {
	for _, tt := range []struct {
		refs []string
		a, b string
	}{
		{[]string{"a/b", "a"}, "a", "a/b"},
		{[]string{"x", "a/b/c/d", "a-b", "a/b"}, "a/b", "a/b/c/d"},
		{[]string{"a", "a!", "a-b", "a/b"}, "a", "a/b"},
		{[]string{"a", "ab", "b/a", "b/c"}, "", ""},
		{nil, "", ""},
	} {
		a, b, found := ConflictingRef(tt.refs)
		if a != tt.a || b != tt.b || found != (tt.a != "") {
			t.Errorf("ConflictingRef(%v) = %q, %q, %v", tt.refs, a, b, found)
		}
	}
}
