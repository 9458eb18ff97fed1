// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"strings"
	"testing"
)

// Slips that people make are told in words of the file, each with its line.
func TestSlips(t *testing.T) {
	for text, want := range map[string]string{
		"repo: x\n\tstate: y\n":                      "line 2: a tab at the start of the line",
		"repo: x\nlimits:\n\tmin-free-space: 1GiB\n": "line 3: a tab at the start of the line",
		"tokens:\n  - name: a\n\t  sha256: b\n":      "line 3: a tab at the start of the line",
		"\trepo: x\n":                                "line 1: a tab at the start of the line",
		"repo: !!binary x\n":                         "line 1: the tag !!binary does not belong in this file",
		"limits: !!binary abc\n":                     "line 1: the tag !!binary does not belong in this file",
		"repo: x\ntokens: !foo [a]\n":                "line 2: the tag !foo does not belong in this file",
		"!!binary repo: x\n":                         "line 1: the tag !!binary does not belong in this file",
		"tokens: [word]\n":                           "line 1: a text does not belong here",
		"repo: [\n":                                  "not YAML: line 1: did not find expected node content",
		"address: \"18081\"\n":                       `line 1: address: "18081" is not an address such as :8080`,
		"address: \":99999\"\n":                      `line 1: address: ":99999" is not an address such as :8080`,
		"tls: {client-ca: ca.pem}\n":                 `line 1: tls.client-ca: needs cert and key`,
		"address: \"unix:\"\n":                       `line 1: address: "unix:" lacks the path of a unix socket`,
		"address: \"unix:@name\"\n":                  `line 1: address: "unix:@name" is an abstract socket`,
		"address: \"localhost:nowhere\"\n":           `line 1: address: "localhost:nowhere" is not an address`,
	} {
		_, err := Parse([]byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "yaml:") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
