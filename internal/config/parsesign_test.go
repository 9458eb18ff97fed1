// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"reflect"
	"strings"
	"testing"
)

// Each key below sign is read as it is written, also one that looks like a number.
func TestParseSign(t *testing.T) {
	for text, want := range map[string]Sign{
		"{gpg: {homedir: /etc/gpg, keys: [0123456789012345, ABCD]}, commits: true}": {GPG: GPG{"/etc/gpg", []string{"0123456789012345", "ABCD"}}, Commits: true},
		"{gpg: {keys: [ABCD]}, commits: false}":                                     {GPG: GPG{"", []string{"ABCD"}}},
		"{ed25519: {key-file: /etc/key}}":                                           {Ed25519: "/etc/key"},
		"{command: [/usr/bin/sign, --key, 1]}":                                      {Command: []string{"/usr/bin/sign", "--key", "1"}},
		"{}":                                                                        {},
	} {
		c, err := Parse([]byte("sign: " + text))
		if err != nil || !reflect.DeepEqual(c.Sign, want) {
			t.Errorf("%s: %+v, %v; want %+v", text, c, err, want)
		} else if c.Sign.Any() != (text != "{}") {
			t.Errorf("%s: there is something to sign with: %v", text, c.Sign.Any())
		}
	}
}

// What is refused below sign names its line.
func TestParseSignFaults(t *testing.T) {
	for text, want := range map[string]string{
		"\n  gpg: {homedir: /etc/gpg}": "line 2: sign.gpg.keys: needs the fingerprint of at least one key",
		"{gpg: {keys: []}}":            "sign.gpg.keys: needs the fingerprint",
		"{gpg: {keys: ABCD}}":          "sign.gpg.keys: needs a list",
		"{gpg: {keys: [--output]}}":    `"--output" is not the fingerprint`,
		"{gpg: {key: [ABCD]}}":         `unknown key "key"`,
		"{ed25519: /etc/key}":          "does not belong here",
		"{ed25519: {key-file: }}":      "sign.ed25519.key-file: needs a value",
		"{command: []}":                "sign.command: names no program",
		"{command: {a: b}}":            "sign.command: needs a list",
		"{commits: true}":              "line 1: sign.commits: there is no key to sign with",
		"{command: [x], commits: yes}": `sign.commits: "yes" is neither true nor false`,
	} {
		if _, err := Parse([]byte("sign: " + text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\ngot  %v\nwant %s", text, err, want)
		}
	}
}
