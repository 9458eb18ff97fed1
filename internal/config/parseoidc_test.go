// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/token"
)

// TestParseOIDC pins each key of an entry, and that values stay as they are written.
func TestParseOIDC(t *testing.T) {
	got, err := Parse([]byte(`
oidc:
  - issuer: https://token.actions.githubusercontent.com
    audience: https://repo.example.org
    claims: {repository: "example/os", ref: [refs/heads/main, "refs/tags/*"]}
    name: gh-os
    refs: ["os/**"]
    scopes: [push, force]
  - {issuer: "http://127.0.0.1:5556/dex", audience: x, name: dex, claims: {sub: "**", run: 123, private: true}}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []token.Trust{
		{Issuer: "https://token.actions.githubusercontent.com", Audience: "https://repo.example.org", Name: "gh-os",
			Claims: map[string][]string{"repository": {"example/os"}, "ref": {"refs/heads/main", "refs/tags/*"}},
			Refs:   &[]string{"os/**"}, Scopes: []string{"push", "force"}},
		{Issuer: "http://127.0.0.1:5556/dex", Audience: "x", Name: "dex", Scopes: []string{"push"},
			Claims: map[string][]string{"sub": {"**"}, "run": {"123"}, "private": {"true"}}},
	}
	if !reflect.DeepEqual(got.OIDC, want) {
		t.Errorf("got  %+v\nwant %+v", got.OIDC, want)
	}
}

// TestParseOIDCFaults pins that nothing is left out by mistake that would let others
// push.
func TestParseOIDCFaults(t *testing.T) {
	entry := func(changes ...string) string {
		keys := [][2]string{{"issuer", "https://ci.example.org"}, {"audience", "x"}, {"name", "a"}, {"claims", "{sub: x}"}}
		var text strings.Builder
		for i, k := range keys {
			for j := 0; j < len(changes); j += 2 {
				if changes[j] == k[0] {
					k[1] = changes[j+1]
				}
			}
			if k[1] != "-" {
				text.WriteString(map[bool]string{true: "- ", false: "  "}[i == 0] + k[0] + ": " + k[1] + "\n")
			}
		}
		return text.String()
	}
	for _, tt := range []struct{ text, want string }{
		{"- {}", "oidc 1: needs a value for issuer"},
		{entry("audience", "-"), "line 2: oidc 1: needs a value for audience"},
		{entry("audience", ""), "line 3: oidc 1: audience: needs a value"},
		{entry("name", "-"), "needs a value for name"},
		{entry("name", "a b"), `"a b" is not a token name`},
		{entry("claims", "-"), "line 2: oidc 1: needs claims, else every ID token"},
		{entry("claims", "{}"), "line 5: oidc 1: needs claims"},
		{entry("claims", ""), "claims: needs a mapping"},
		{entry("claims", "all"), "claims: needs a mapping"},
		{entry("claims", "[sub]"), "claims: needs a mapping"},
		{entry("claims", "{sub: }"), "claims: sub: needs a value"},
		{entry("claims", "{sub: []}"), "claims: sub: needs at least one value"},
		{entry("claims", "{sub: {a: b}}"), "claims: sub: needs a value"},
		{entry("claims", "{sub: '***'}"), "more than two stars"},
		{entry("claims", "{sub: a, sub: b}"), `claims: duplicate key "sub"`},
		{entry("issuer", "ci.example.org"), "is not an issuer such as"},
		{entry("issuer", "https://ci.example.org/?tenant=1"), "is not an issuer such as"},
		{entry("issuer", "http://ci.example.org"), "has to begin with https://"},
		{entry("issuer", "http://127.0.0.1.example.org"), "has to begin with https://"},
		{entry("issuer", "ftp://127.0.0.1"), "has to begin with https://"},
		{entry("issuer", "https://token.actions.githubusercontent.com", "claims", "{ref: refs/heads/main}"), "everybody at https://token.actions.githubusercontent.com can have these: add one of repository,"},
		{entry("issuer", "https://gitlab.com", "claims", "{ref: main}"), "add one of project_path,"},
		{entry() + "  scopes: [pull]", `scope "pull" is not one of`},
		{entry() + "  refs: all", "refs: needs a list"},
		{entry() + "  ref: [x]", `unknown key "ref"`},
		{entry() + entry(), "oidc 2: the name a is already that of oidc 1"},
	} {
		if _, err := Parse([]byte("oidc:\n" + tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s\ngot  %v\nwant %s", tt.text, err, tt.want)
		}
	}
	both := "tokens: [{name: a, sha256: " + hashA + "}]\noidc:\n" + entry()
	if _, err := Parse([]byte(both)); err == nil || !strings.Contains(err.Error(), "line 5: oidc 1: the name a is already that of token 1") {
		t.Error(err)
	}
}

// TestNamed pins who a name stands for.
func TestNamed(t *testing.T) {
	now := time.Now()
	c := &Config{
		Tokens: []token.Token{{Name: "old", Expires: now}, {Name: "ci"}},
		OIDC:   []token.Trust{{Name: "gh", Scopes: []string{token.Push}}},
	}
	if c.Named("ci", now) != &c.Tokens[1] || c.Named("old", now) != nil || c.Named("", now) != nil {
		t.Error("tokens")
	}
	if got := c.Named("gh", now); got == nil || !got.MayPush("x") {
		t.Errorf("%+v", got)
	}
}

// TestAddTokenBesideOIDC pins that an entry's name is not given to a token.
func TestAddTokenBesideOIDC(t *testing.T) {
	text := []byte("oidc:\n- {issuer: 'https://ci.example.org', audience: x, claims: {sub: x}, name: gh}\n")
	if _, err := withToken(text, token.Token{Name: "gh", SHA256: hashA, Scopes: []string{"push"}}); err == nil || !strings.Contains(err.Error(), "gh") {
		t.Error(err)
	}
	if _, err := withToken(text, token.Token{Name: "ci", SHA256: hashA, Scopes: []string{"push"}}); err != nil {
		t.Error(err)
	}
}
