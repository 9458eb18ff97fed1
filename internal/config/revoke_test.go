// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/token"
)

// TestRevokeTokens pins that of each file that people may have written a token can be
// taken out, whether others stand before or behind it or none is left, and nothing
// else changes; and that no comment outside of it is lost.
func TestRevokeTokens(t *testing.T) {
	for name, old := range editable {
		before, err := Parse([]byte(old))
		if err != nil {
			t.Fatal(err)
		}
		more, err := withToken([]byte(old), token.Token{Name: "more", SHA256: hashB, Scopes: []string{"push"}})
		if err != nil {
			t.Fatal(err)
		}
		names := []string{"more"}
		for _, t := range before.Tokens {
			names = append(names, t.Name)
		}
		for i := range names {
			t.Run(name+" "+names[i], func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "c.yaml")
				write(t, path, string(more), 0o640)
				want, _ := Parse(more)
				for _, gone := range []string{names[i], names[len(names)-1-i]} {
					if at(want.Tokens, gone) < 0 {
						continue
					}
					if want.Tokens = slices.DeleteFunc(want.Tokens, func(t token.Token) bool { return t.Name == gone }); len(want.Tokens) == 0 {
						want.Tokens = nil // as Parse has it
					}
					left, err := RevokeTokens(path, gone)
					if err != nil || left != len(want.Tokens) {
						t.Fatalf("%d left, %v", left, err)
					}
					if after, err := Parse([]byte(read(t, path))); err != nil || !reflect.DeepEqual(after, want) {
						t.Errorf("%v:\n%s", err, read(t, path))
					}
				}
				for line := range strings.Lines(old) {
					_, comment, ok := strings.Cut(line, "#")
					if ok && !strings.Contains(line, "sha256") && !strings.Contains(read(t, path), "#"+strings.TrimRight(comment, "\n")) {
						t.Errorf("lost %q:\n%s", comment, read(t, path))
					}
				}
				wantMode(t, path, 0o640)
			})
		}
	}
}

// TestRevokeKeepsTheText pins that of the usual file only the lines of the tokens go.
func TestRevokeKeepsTheText(t *testing.T) {
	const head = "# head\nrepo: r\n\ntokens:\n    # all who build\n"
	const a = "    - name: a\n      sha256: " + hashA + "  # aaa\n      # since May\n\n      refs:\n        - os/*\n      # no more\n"
	const b = "\n    # the night\n    - sha256: " + hashB + "\n      name: b\n"
	const c = "    - name: c\n      sha256: cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc\n"
	const tail = "\n# behind\nhistory: 1h\n"
	for _, tt := range []struct {
		names string
		want  string
	}{
		{"a", head + b + c + tail},
		{"b", head + a + "\n    # the night\n" + c + tail},
		{"c", head + a + b + tail},
		{"c a a", head + b + tail},
		{"a b c", head + "\n    # the night\n" + tail},
	} {
		text, left, err := withoutTokens([]byte(head+a+b+c+tail), strings.Fields(tt.names))
		if err != nil || string(text) != tt.want {
			t.Errorf("%s: %d left, %v:\n%s", tt.names, left, err, text)
		}
	}
}

// TestRevokeRefuses pins that nothing changes where one of the names is of no token or
// the file has a fault, and what is said then.
func TestRevokeRefuses(t *testing.T) {
	const file = "tokens:\n- {name: ci-1, sha256: " + hashA + "}\n- {name: deploy, sha256: " + hashB + "}\n"
	const anchored = "tokens:\n- {name: a, sha256: " + hashA + ", refs: &r [x]}\n- {name: b, sha256: " + hashB + ", refs: *r}\n"
	const trust = "oidc:\n- {issuer: https://example.org, audience: a, claims: {sub: x}, name: hub}\n"
	for _, tt := range []struct{ file, names, fault, hint string }{
		{file, "ci1 deploy", `there is no token "ci1"`, "is it ci-1? "},
		{file, "Deploy", `there is no token "Deploy"`, "is it deploy? "},
		{file, "dep", `there is no token "dep"`, "is it deploy? "},
		{file, "deploy-9 x", `there is no token "x"`, "is it deploy? "},
		{file, "nobody", `there is no token "nobody"`, "`ostree-upload tokens` lists"},
		{file, strings.Repeat("x", 1<<20), "there is no token", "`ostree-upload tokens` lists"},
		{file, "\x1b[2J", `there is no token "\x1b[2J"`, "lists"},
		{"", "ci", `there is no token "ci"`, "lists"},
		{trust, "hub", "hub is no token, but an entry of oidc", "by hand"},
		{"repos: x\n" + file, "ci-1", "unknown key", ""},
		{anchored, "a", "cannot be edited", "by hand"},
	} {
		path := filepath.Join(t.TempDir(), "c.yaml")
		write(t, path, tt.file, 0o600)
		_, err := RevokeTokens(path, strings.Fields(tt.names)...)
		if err == nil || !strings.Contains(err.Error(), tt.fault) || !strings.Contains(hint.Of(err), tt.hint) || len(err.Error()) > 1000 {
			t.Errorf("%.20q: %.500v\nhint: %s", tt.names, err, hint.Of(err))
		}
		if got := read(t, path); got != tt.file {
			t.Errorf("%q became %q", tt.file, got)
		}
	}
	path := filepath.Join(t.TempDir(), "none.yaml")
	if _, err := RevokeTokens(path, "a"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no configuration file at") {
		t.Error(err)
	}
}

// TestOverlap pins which secrets of a token still work after it was replaced, in each
// file that people may have written, and that the next edit takes out those whose
// time is over.
func TestOverlap(t *testing.T) {
	for name, old := range editable {
		before, err := Parse([]byte(old))
		if err != nil {
			t.Fatal(err)
		}
		if len(before.Tokens) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "c.yaml")
			write(t, path, old, 0o640)
			first := before.Tokens[0]
			want := func(now time.Time, works map[string]bool) {
				t.Helper()
				c, err := Load(path)
				if err != nil {
					t.Fatal(err)
				}
				for secret, should := range works {
					hash := token.Hash(secret)
					if secret == "FIRST" {
						hash = first.SHA256
					}
					if works := goodHash(c, first.Name, hash, now); works != should {
						t.Errorf("%s works: %t\n%s", secret, works, read(t, path))
					}
				}
			}
			replace := func(secret string, at time.Time, overlap time.Duration) {
				t.Helper()
				made := token.Token{Name: first.Name, SHA256: token.Hash(secret), Created: at.UTC()}
				if _, err := ReplaceToken(path, made, overlap); err != nil {
					t.Fatalf("%v:\n%s", err, read(t, path))
				}
			}
			now := time.Now().Truncate(time.Second)
			replace("second", now.Add(-2*time.Hour), 3*time.Hour)
			want(now, map[string]bool{"FIRST": true, "second": true})
			replace("third", now.Add(-time.Hour), 24*time.Hour)
			want(now, map[string]bool{"FIRST": true, "second": true, "third": true})
			want(now.Add(time.Hour), map[string]bool{"FIRST": false, "second": true, "third": true})
			replace("fourth", now, 0)
			want(now, map[string]bool{"FIRST": false, "second": false, "third": false, "fourth": true})
			if strings.Contains(read(t, path), "previous") {
				t.Errorf("what was replaced is still there:\n%s", read(t, path))
			}

			replace("fifth", now.Add(-2*time.Hour), time.Hour) // which is over
			if !strings.Contains(read(t, path), token.Hash("fourth")) {
				t.Errorf("the secret that was replaced is not there:\n%s", read(t, path))
			}
			add(t, path, token.Token{Name: "new", SHA256: token.Hash("new"), Scopes: []string{"push"}})
			if strings.Contains(read(t, path), token.Hash("fourth")) || strings.Contains(read(t, path), "previous") {
				t.Errorf("the next edit left a secret whose time is over:\n%s", read(t, path))
			}
			want(now, map[string]bool{"fifth": true})
		})
	}
}

// goodHash tells whether a secret of this hash is good for the token of a name.
func goodHash(c *Config, name, hash string, now time.Time) bool {
	t := c.Tokens[at(c.Tokens, name)]
	for _, s := range t.Previous {
		if s.SHA256 == hash {
			return !s.Over(now)
		}
	}
	return t.SHA256 == hash && !t.Expired(now)
}

// TestOverlapEnds pins that no earlier secret works for longer than its token did, or
// does.
func TestOverlapEnds(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	day := func(n int) time.Time { return start.AddDate(0, 0, n) }
	old := token.Token{SHA256: hashA, Expires: day(10), Previous: []token.Secret{{SHA256: hashB, Until: day(4)}}}
	for _, tt := range []struct {
		created, expires, then time.Time
		want                   []token.Secret
	}{
		{day(1), time.Time{}, day(2), []token.Secret{{SHA256: hashB, Until: day(4)}, {SHA256: hashA, Until: day(2)}}},
		{day(1), day(3), day(9), []token.Secret{{SHA256: hashB, Until: day(3)}, {SHA256: hashA, Until: day(3)}}},
		{day(4), time.Time{}, day(30), []token.Secret{{SHA256: hashA, Until: day(10)}}},
		{day(10), time.Time{}, day(30), nil},
	} {
		if got := previous(&old, &token.Token{Created: tt.created, Expires: tt.expires}, tt.then); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("replaced at %v: %v", tt.created, got)
		}
	}
}

// TestPreviousKeepsTheText pins what an overlap writes into the usual file.
func TestPreviousKeepsTheText(t *testing.T) {
	const head = "# head\nrepo: r\n\ntokens:\n  # the CI\n  - name: a\n    sha256: "
	const rest = "  # aaa\n    created: 2026-01-02T03:04:05Z\n\n    refs: [ os/* ]   # all\n"
	const tail = "  - name: b\n    sha256: cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc\n"
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	text, _, err := withRenewed([]byte(head+hashA+rest+tail), token.Token{Name: "a", SHA256: hashB, Created: created}, 24*time.Hour)
	want := head + hashB + rest + "    previous:\n      - sha256: " + hashA + "\n        until: 2026-01-03T03:04:05Z\n" + tail
	if err != nil || string(text) != want {
		t.Errorf("%v:\n%s", err, text)
	}
	if text = tidied(text, created.AddDate(0, 0, 1)); string(text) != head+hashB+rest+tail {
		t.Errorf("tidied:\n%s", text)
	}
}

// TestRevokeTokensLeft pins that who pushes with ID tokens is counted as somebody who can.
func TestRevokeTokensLeft(t *testing.T) {
	const file = "tokens: [{name: a, sha256: " + hashA + "}]\n" +
		"oidc: [{issuer: https://ci.example.org, audience: x, claims: {sub: s}, name: ci}]\n"
	if _, left, err := withoutTokens([]byte(file), []string{"a"}); err != nil || left != 1 {
		t.Errorf("%d left, %v", left, err)
	}
}

// TestTidiedIsBounded pins that an edit of a file with many old secrets takes out some of
// them, and the next edit more.
func TestTidiedIsBounded(t *testing.T) {
	text := []byte("tokens:\n")
	for i := range 2*mostTidied + 1 {
		text = fmt.Appendf(text, "- name: t%d\n  sha256: %s\n  previous:\n  - sha256: %s\n    until: 2020-01-01\n", i, token.Hash(fmt.Sprint(i)), token.Hash(fmt.Sprint("p", i)))
	}
	for _, want := range []int{mostTidied + 1, 1, 0} {
		if text = tidied(text, time.Now()); strings.Count(string(text), "until") != want {
			t.Fatalf("%d are left, want %d", strings.Count(string(text), "until"), want)
		}
	}
}
