// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/token"
)

// TestReplaceToken pins that in each file that people may have written the first
// token gets another secret and nothing else, and that their comments stay.
func TestReplaceToken(t *testing.T) {
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
			_, renewed := token.Generate(token.Options{Name: before.Tokens[0].Name})
			renewed.Scopes = nil
			got, err := ReplaceToken(path, renewed, 0)
			if err != nil {
				t.Fatal(err)
			}
			want := *before
			want.Tokens[0].SHA256, want.Tokens[0].Created = renewed.SHA256, renewed.Created
			if after, err := Parse([]byte(read(t, path))); err != nil || !reflect.DeepEqual(after, &want) || !reflect.DeepEqual(got, want.Tokens[0]) {
				t.Errorf("%v, %+v:\n%s", err, got, read(t, path))
			}
			for line := range strings.Lines(old) {
				if _, comment, ok := strings.Cut(line, "#"); ok && !strings.Contains(read(t, path), "#"+strings.TrimRight(comment, "\n")) {
					t.Errorf("lost %q:\n%s", comment, read(t, path))
				}
			}
		})
	}
}

// TestReplaceTokenKeepsTheText pins that of the usual file two values change, in
// their lines.
func TestReplaceTokenKeepsTheText(t *testing.T) {
	file := "# head\nrepo: r\n\ntokens:\n    # the CI\n    - name: a\n      sha256: " + hashA + "  # aaa\n" +
		"      created: 2026-01-02T03:04:05Z\n\n      refs: [ os/* ]   # all\n    - name: b\n      sha256: \"" + strings.Repeat("c", 64) + "\"\n"
	created := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	text, _, err := withRenewed([]byte(file), token.Token{Name: "a", SHA256: hashB, Created: created}, 0)
	want := strings.NewReplacer(hashA, hashB, "2026-01-02T03:04:05Z", "2026-05-06T07:08:09Z").Replace(file)
	if err != nil || string(text) != want {
		t.Errorf("%v:\n%s", err, text)
	}
}

// TestReplaceTokenNarrowed pins that other refs and scopes change no more of the file
// than their own lines, however they are written.
func TestReplaceTokenNarrowed(t *testing.T) {
	const (
		head = "---\n# head\n\ntokens:\n  - name: a\n\n    # secret\n    sha256: "
		tail = "\n\n  # next\n  - name: b\n    token: PLAIN\n\n# end\n"
	)
	for _, c := range []struct{ old, want string }{
		{"", "\n    refs: [\"os/a\"]\n    scopes: [push, force]"},
		{"\n    refs: [ os/* ]   # some\n    scopes: []", "\n    refs: [\"os/a\"]   # some\n    scopes: [push, force]"},
		{"\n    scopes: # what\n      - push\n      - admin\n    refs:\n    - \"**\"", "\n    scopes: [push, force] # what\n    refs: [\"os/a\"]"},
	} {
		refs := []string{"os/a"}
		text, _, err := withRenewed([]byte(head+hashA+c.old+tail), token.Token{Name: "a", SHA256: hashB, Refs: &refs, Scopes: []string{"push", "force"}}, 0)
		if want := head + hashB + c.want + tail; err != nil || string(text) != want {
			t.Errorf("%v:\n%s\nwant:\n%s", err, text, want)
		}
	}
}

// TestReplaceTokenInherits pins what stays of the old token, and that its lifetime
// begins anew.
func TestReplaceTokenInherits(t *testing.T) {
	const file = "tokens:\n- name: a\n  sha256: " + hashA + "\n  created: 2026-01-01T00:00:00Z\n  expires: 2026-01-31T00:00:00Z\n" +
		"  refs: [os/*]\n  scopes: [push, force]\n"
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	_, got, err := withRenewed([]byte(file), token.Token{Name: "a", SHA256: hashB, Created: now}, 0)
	if err != nil || !got.Expires.Equal(now.AddDate(0, 0, 30)) || !got.May(token.Force) || got.MayPush("x") {
		t.Errorf("%+v, %v", got, err)
	}
	refs := []string{"x"}
	_, got, err = withRenewed([]byte(file), token.Token{Name: "a", SHA256: hashB, Created: now, Refs: &refs, Scopes: []string{"push"}, Expires: now.AddDate(1, 0, 0)}, 0)
	if err != nil || !got.Expires.Equal(now.AddDate(1, 0, 0)) || got.May(token.Force) || !got.MayPush("x") || got.MayPush("os/a") {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestReplaceTokenRefuses pins who is told what to do instead, and that the file stays.
func TestReplaceTokenRefuses(t *testing.T) {
	for _, c := range []struct{ file, name, hint string }{
		{"repo: r\n", "a", "leave --replace out"},
		{"tokens:\n- name: a\n  sha256: " + hashA + "\n  expires: 2026-01-31T00:00:00Z\n", "a", "give --expires"},
	} {
		path := filepath.Join(t.TempDir(), "c.yaml")
		write(t, path, c.file, 0o600)
		_, err := ReplaceToken(path, token.Token{Name: c.name, SHA256: hashB}, 0)
		var h interface{ Hint() string }
		if !errors.As(err, &h) || !strings.Contains(h.Hint(), c.hint) || read(t, path) != c.file {
			t.Errorf("%v:\n%s", err, read(t, path))
		}
	}
}
