// SPDX-License-Identifier: AGPL-3.0-or-later

package token

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMatchGlob(t *testing.T) {
	for _, tt := range []struct {
		glob, ref string
		want      bool
	}{
		{"os/x86_64/stable", "os/x86_64/stable", true},
		{"os/x86_64/stable", "os/x86_64/stabl", false},
		{"os/x86_64/stable", "os/x86_64/stable2", false},
		{"os/*", "os/x86_64", true},
		{"os/*", "os/x86_64/stable", false},
		{"os/*", "os", false},
		{"os/*/stable", "os/x86_64/stable", true},
		{"os/*/stable", "os/a/b/stable", false},
		{"os/**", "os/x86_64/stable", true},
		{"os/**", "ossify/a", false},
		{"os/**", "os", false},
		{"os/**/stable", "os/a/b/stable", true},
		{"**", "anything/at/all", true},
		{"*", "anything", true},
		{"*", "any/thing", false},
		{"a*b*c", "axxbxxc", true},
		{"a*b*c", "axxbxx/c", false},
		{"a**c", "ab/c", true},
		{"a.c", "abc", false},
		{strings.Repeat("a*", 200) + "b", strings.Repeat("a", 5000), false}, // no backtracking
	} {
		if got := MatchGlob(tt.glob, tt.ref); got != tt.want {
			t.Errorf("%.40s on %.40s: %t", tt.glob, tt.ref, got)
		}
	}
}

// TestMayPush pins the difference between no list of refs and an empty one.
func TestMayPush(t *testing.T) {
	push := []string{Push}
	for _, tt := range []struct {
		name  string
		token Token
		want  bool
	}{
		{"no list is all", Token{Scopes: push}, true},
		{"an empty list is none", Token{Scopes: push, Refs: &[]string{}}, false},
		{"one of the globs", Token{Scopes: push, Refs: &[]string{"x", "os/**"}}, true},
		{"none of the globs", Token{Scopes: push, Refs: &[]string{"x"}}, false},
		{"not without the scope", Token{Scopes: []string{Sessions}}, false},
		{"admin has the scope, not the refs", Token{Scopes: []string{Admin}, Refs: &[]string{"x"}}, false},
		{"admin has the scope", Token{Scopes: []string{Admin}}, true},
	} {
		if got := tt.token.MayPush("os/x86_64/stable"); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
	admin := Token{Scopes: []string{Admin}}
	for _, s := range Scopes {
		if !admin.May(s) {
			t.Errorf("admin may not %s", s)
		}
	}
}

func TestFind(t *testing.T) {
	plain, token := Generate(Options{Name: "ci", Expires: time.Hour})
	tokens := []Token{{Name: "old", SHA256: Hash("OLD"), Scopes: []string{Push}}, token}

	now := token.Created.Add(59 * time.Minute)
	if got, err := Find(tokens, plain, now); err != nil || got.Name != "ci" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := Find(tokens, "OLD", now); err != nil || got.Name != "old" || !got.May(Push) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bearer := range []string{"", "x", token.SHA256, plain[:63], plain + "0"} {
		if got, err := Find(tokens, bearer, now); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %v, %v", bearer, got, err)
		}
	}
	if _, err := Find(tokens, plain, token.Expires); !errors.As(err, new(*ExpiredError)) || !strings.Contains(err.Error(), "ci") {
		t.Error(err)
	}
}

// TestFindPrevious pins that an earlier secret is that of the same token until its
// time is over, and not longer than the token.
func TestFindPrevious(t *testing.T) {
	start := time.Now()
	tokens := []Token{{Name: "ci", SHA256: Hash("NEW"), Scopes: []string{Push}, Previous: []Secret{
		{Hash("OLDER"), start.Add(time.Minute)}, {Hash("OLD"), start.Add(time.Hour)},
	}}}
	for _, bearer := range []string{"NEW", "OLD", "OLDER"} {
		if got, err := Find(tokens, bearer, start); err != nil || got != &tokens[0] {
			t.Errorf("%s: %v, %v", bearer, got, err)
		}
	}
	later := start.Add(time.Minute)
	if _, err := Find(tokens, "OLD", later); err != nil {
		t.Error(err)
	}
	if _, err := Find(tokens, "OLDER", later); !errors.As(err, new(*ReplacedError)) || !strings.Contains(err.Error(), "ci was replaced") {
		t.Error(err)
	}
	tokens[0].Expires = later
	if _, err := Find(tokens, "OLD", later); !errors.As(err, new(*ExpiredError)) {
		t.Error(err)
	}
}

func TestGenerate(t *testing.T) {
	a, first := Generate(Options{})
	b, second := Generate(Options{Refs: []string{"os/*"}, Scopes: []string{Admin}})
	if a == b || len(a) != 64 || first.Name == second.Name {
		t.Errorf("%s %s", first.Name, second.Name)
	}
	if first.Refs != nil || !slices.Equal(first.Scopes, []string{Push}) || !first.Expires.IsZero() {
		t.Errorf("%+v", first)
	}
	if second.Refs == nil || !slices.Equal(*second.Refs, []string{"os/*"}) || !second.May(Force) {
		t.Errorf("%+v", second)
	}
	for _, tok := range []Token{first, second} {
		if err := tok.Check(); err != nil {
			t.Error(err)
		}
	}
}
