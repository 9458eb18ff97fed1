// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"slices"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/token"
)

// FuzzEdit pins that no file, however it is written, makes an edit fail otherwise than
// by an error, and that each edit that succeeds does what it is to do.
func FuzzEdit(f *testing.F) {
	for _, text := range editable {
		f.Add(text)
	}
	f.Add("tokens:\n- &a {name: a, sha256: " + hashA + ", previous: [{sha256: " + hashB + ", until: 2020-01-01}]}\n")
	f.Add("tokens: [{name: a, sha256: " + hashA + "}]\noidc: [{issuer: https://ci.example.org, audience: x, claims: {sub: s}, name: ci}]\n")
	f.Add("tokens: &t\n- name: a\n  sha256: " + hashA + "\noidc: *t\n")
	f.Fuzz(func(t *testing.T, text string) {
		before, err := Parse([]byte(text))
		if err != nil {
			return
		}
		added, err := withToken([]byte(text), token.Token{Name: "added", SHA256: token.Hash("added"), Scopes: []string{token.Push}})
		if err == nil {
			if _, left, err := withoutTokens(added, []string{"added"}); err == nil && left != len(before.Tokens)+len(before.OIDC) {
				t.Errorf("%d tokens are left, %v:\n%s", left, err, added)
			}
		}
		for _, x := range before.Tokens {
			made := token.Token{Name: x.Name, SHA256: token.Hash("made"), Created: time.Now().UTC().Truncate(time.Second)}
			if renewed, _, err := withRenewed([]byte(text), made, time.Hour); err == nil {
				c, err := Parse(renewed)
				if err != nil || c.Tokens[at(c.Tokens, x.Name)].SHA256 != made.SHA256 {
					t.Errorf("%v:\n%s", err, renewed)
				}
			}
			if gone, left, err := withoutTokens([]byte(text), []string{x.Name}); err == nil {
				c, err := Parse(gone)
				if err != nil || len(c.Tokens)+len(c.OIDC) != left || slices.ContainsFunc(c.Tokens, func(o token.Token) bool { return o.Name == x.Name }) {
					t.Errorf("%d tokens are left, %v:\n%s", left, err, gone)
				}
			}
		}
	})
}
