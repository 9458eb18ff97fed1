// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"crypto/ed25519"
	"reflect"
	"testing"
)

const somePublicKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// TestParsePolicy pins the forms of the list, and whom an entry concerns.
func TestParsePolicy(t *testing.T) {
	c, err := Parse([]byte(`policy:
  - {refs: ["os/**"], gpg-keyring: keys.gpg, ed25519: [` + somePublicKey + `], require: 2}
  - gpg-keyring: others.asc
    history: true
`))
	if err != nil {
		t.Fatal(err)
	}
	key := make(ed25519.PublicKey, ed25519.PublicKeySize)
	for i := range key {
		key[i] = byte(i)
	}
	want := []Policy{
		{Name: "policy 1", Refs: []string{"os/**"}, GPGKeyring: "keys.gpg", Ed25519: []ed25519.PublicKey{key}, Require: 2},
		{Name: "policy 2", GPGKeyring: "others.asc", Require: 1, History: true},
	}
	if !reflect.DeepEqual(c.Policy, want) {
		t.Errorf("got\n%+v\nwant\n%+v", c.Policy, want)
	}
	if p := &want[0]; !p.Concerns("os/x86_64/stable") || p.Concerns("app/x") || !want[1].Concerns("app/x") {
		t.Error("it concerns other refs")
	}
}

// TestPolicyFaults pins that each fault is told with its line.
func TestPolicyFaults(t *testing.T) {
	for text, want := range map[string]string{
		"policy: {require: 1}":                                               "line 1: a mapping does not belong here",
		"policy:\n- {}":                                                      "policy 1: names no key, so nothing could ever be published: give it gpg-keyring or ed25519",
		"policy:\n- {refs: [a], require: 2}":                                 "line 2: policy 1: names no key, so nothing could ever be published: give it gpg-keyring or ed25519",
		"policy:\n- {gpg-keyring: k}\n- {ed25519: []}":                       "line 3: policy 2: names no key, so nothing could ever be published: give it gpg-keyring or ed25519",
		"policy:\n- {gpg-keyring: k, require: 0}":                            "line 2: policy 1: require: must be at least 1",
		"policy:\n- {gpg-keyring: k, require: two}":                          "line 2: policy 1: require: \"two\" is not a whole number such as 50",
		"policy:\n- {gpg-keyring: k, refs: []}":                              "line 2: policy 1: refs: concerns no ref; leave the key out for all refs",
		"policy:\n- {gpg-keyring: k, history: yes}":                          "line 2: policy 1: history: \"yes\" is neither true nor false",
		"policy:\n- {ed25519: [AAEC]}":                                       "line 2: policy 1: ed25519: \"AAEC\" is not an ed25519 public key: 32 bytes as base64, as `ostree sign` reads them",
		"policy:\n- ed25519: [" + somePublicKey + ", " + somePublicKey + "]": "line 2: policy 1: ed25519: the key " + somePublicKey + " is given twice",
		"policy:\n- {ed25519: [" + somePublicKey + "], require: 2}":          "line 2: policy 1: require: wants 2 keys to have signed, and there are only 1",
	} {
		_, err := Parse([]byte(text))
		if err == nil || err.Error() != want {
			t.Errorf("%s\n%v\nwant\n%s", text, err, want)
		}
	}
}
