// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"strings"
	"testing"
)

// The printed command gets the token from where the push got it, and prints no more of
// that than who reads the log of a job may see.
func TestTokenToRepeat(t *testing.T) {
	for _, tt := range []struct{ given, file, command, want string }{
		{"", "f", "", "--token-file f"},
		{"", "f", "c", "--token-file f"},
		{"", "", "c", ""},
		{"--token=t", "f", "c", ""},
		{"--token-command=x", "f", "c", "--token-command x"},
		{"--audience=x", "f", "c", "--audience x"},
		{"--token-file=x --audience=y", "", "", ""}, // it is refused
	} {
		t.Setenv("OSTREE_UPLOAD_TOKEN_FILE", tt.file)
		t.Setenv("OSTREE_UPLOAD_TOKEN_COMMAND", tt.command)
		unsetEmpty()
		var c cli
		if _, err := parserOf(&c).Parse(append([]string{"push"}, strings.Fields(tt.given)...)); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(c.Push.resuming(), " "); got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}

// A push that is resumed by the command that is printed keeps how it sends.
func TestFlagsToRepeat(t *testing.T) {
	for given, want := range map[string]string{
		"":                                    "",
		"--limit-rate=500kB/s --retry-for=1s": "--limit-rate=500kB",
		"--token-file=t --limit-rate=2MB --depth=3 --chunk-size=1MiB --jobs=8": "--token-file t --depth=3 --jobs=8 --chunk-size=1MiB --limit-rate=2MB",
	} {
		var c cli
		if _, err := parserOf(&c).Parse(append([]string{"push"}, strings.Fields(given)...)); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(c.Push.resuming(), " "); got != want {
			t.Errorf("%q: %q, want %q", given, got, want)
		}
	}
}
