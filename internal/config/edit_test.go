// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/token"
)

var editable = map[string]string{
	"empty":             "",
	"only a comment":    "# nothing yet\n",
	"no tokens":         "# head\nrepo: /srv/repo   # where\n\naddress: :8080\n",
	"no last line end":  "repo: /srv/repo",
	"null":              "tokens:   # none yet\n\nrepo: r\n",
	"tilde":             "tokens: ~\nrepo: r\n",
	"empty list":        "tokens: [] # none yet\n\nrepo: r\n",
	"usual":             "repo: r\n\ntokens:\n  # the CI\n  - name: a\n    sha256: " + hashA + "   # aaa\n    refs:\n      - os/*\n\n# behind\nhistory: 1h\n",
	"not indented":      "tokens:\n- name: a\n  sha256: " + hashA + "\nrepo: r\n",
	"at the end":        "tokens:\n    - name: a\n      sha256: " + hashA,
	"flow tokens":       "repo: r # here\ntokens: [{name: a, sha256: " + hashA + "}] # there\n",
	"flow all":          "{repo: r, tokens: [{name: a, sha256: " + hashA + "}]}\n",
	"document markers":  "---\nrepo: r\n...\n",
	"last value folded": "tokens:\n- name: a\n  token: >-\n    PLAIN\n\n    TEXT\n",
	"legacy":            "repo: r\ntokens:\n- token: PLAINTEXT\n  created: 2020-12-30T00:00:00Z\n",
	"carriage returns":  "repo: r\r\ntokens:\r\n  - name: a\r\n    sha256: " + hashA + "\r\n",
	"anchors":           "repo: &r x\nstate: *r\ntokens:\n- name: a\n  sha256: " + hashA + "\n  refs: &f [x]\n",
}

// TestAddToken pins that a token is added to each file that people may have
// written, and that their comments are still there.
func TestAddToken(t *testing.T) {
	for name, old := range editable {
		t.Run(name, func(t *testing.T) {
			before, err := Parse([]byte(old))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "c.yaml")
			write(t, path, old, 0o640)
			_, token := token.Generate(token.Options{Name: "new", Refs: []string{"os/**", "x"}, Expires: 1e12, Scopes: []string{"push", "force"}})
			if err := AddToken(path, token); err != nil {
				t.Fatal(err)
			}
			text := read(t, path)
			before.Tokens = append(before.Tokens, token)
			if after, err := Parse([]byte(text)); err != nil || !reflect.DeepEqual(before, after) {
				t.Errorf("%v:\n%s", err, text)
			}
			for line := range strings.Lines(old) {
				if _, comment, ok := strings.Cut(line, "#"); ok && !strings.Contains(text, "#"+strings.TrimRight(comment, "\n")) {
					t.Errorf("lost %q:\n%s", comment, text)
				}
			}
		})
	}
}

// TestAddTokenKeepsTheText pins that the usual file only gets lines.
func TestAddTokenKeepsTheText(t *testing.T) {
	for _, name := range []string{"empty", "only a comment", "no tokens", "null", "usual", "not indented", "legacy"} {
		text, err := withToken([]byte(editable[name]), token.Token{Name: "null", SHA256: hashB, Scopes: []string{"push"}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		left := string(text)
		for line := range strings.Lines(editable[name]) {
			_, rest, ok := strings.Cut(left, line)
			if !ok {
				t.Errorf("%s: lost %q:\n%s", name, line, text)
			}
			left = rest
		}
	}
}

func TestAddTokenRefuses(t *testing.T) {
	good := token.Token{Name: "a", SHA256: hashA, Scopes: []string{"push"}}
	for _, tt := range []struct {
		old   string
		token token.Token
		want  string
	}{
		{"repos: x\n", good, "unknown key"},
		{"tokens:\n- {name: a, sha256: " + hashB + "}\n", good, "there is a token a already"},
		{"oidc: [{issuer: https://example.org, audience: a, claims: {sub: x}, name: a}]\n", good, "an entry a of oidc already"},
		{"", token.Token{Name: "a b", SHA256: hashA}, "not a token name"},
		{"", token.Token{Name: "a", SHA256: hashA, Scopes: []string{"x"}}, "scope"},
		{"", token.Token{Name: "a", SHA256: hashA, Refs: &[]string{"?"}}, "glob"},
	} {
		path := filepath.Join(t.TempDir(), "c.yaml")
		write(t, path, tt.old, 0o600)
		if err := AddToken(path, tt.token); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v", tt.old, err)
		}
		if got := read(t, path); got != tt.old {
			t.Errorf("%q became %q", tt.old, got)
		}
	}
}

// TestAddTokenFile pins what becomes of the file: mode, links, leftovers.
func TestAddTokenFile(t *testing.T) {
	_, token := token.Generate(token.Options{Name: "a"})

	t.Run("made private", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "c.yaml")
		add(t, path, token)
		wantMode(t, path, 0o600)
	})
	t.Run("keeps its mode", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "c.yaml")
		write(t, path, "", 0o644)
		add(t, path, token)
		wantMode(t, path, 0o644)
	})
	t.Run("stays a link", func(t *testing.T) {
		dir := t.TempDir()
		path, link := filepath.Join(dir, "c.yaml"), filepath.Join(dir, "link.yaml")
		write(t, path, "repo: r\n", 0o600)
		if err := os.Symlink("c.yaml", link); err != nil {
			t.Fatal(err)
		}
		add(t, link, token)
		if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		if text := read(t, path); !strings.Contains(text, token.SHA256) {
			t.Errorf("not in the file: %s", text)
		}
	})
	t.Run("a dangling link is refused", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "link.yaml")
		if err := os.Symlink("none.yaml", link); err != nil {
			t.Fatal(err)
		}
		if err := AddToken(link, token); err == nil || !strings.Contains(err.Error(), "symbolic link") {
			t.Error(err)
		}
	})
	t.Run("no pipe and no device", func(t *testing.T) {
		pipe := filepath.Join(t.TempDir(), "pipe")
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{pipe, "/dev/null"} {
			if err := checkKind(path); err == nil || !strings.Contains(err.Error(), path+" is not a file") {
				t.Error(path, err)
			}
		}
		if err := AddToken(pipe, token); err == nil || hint.Of(err) == "" {
			t.Error(err)
		}
	})
	t.Run("another holds the lock", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "c.yaml")
		write(t, path, "", 0o600)
		held, _, err := openLocked(path, false)
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := lock(f, 0); err == nil || !strings.Contains(err.Error(), "another process has locked "+path) {
			t.Error(err)
		}
	})
	t.Run("a refusal leaves no file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "c.yaml")
		edit(path, true, func([]byte) ([]byte, error) { return nil, fs.ErrInvalid })
		if _, err := os.Stat(path); err == nil {
			t.Error("made")
		}
	})
}

// TestAddTokenTogether pins that two at once lose nothing, also when the file
// is made by one of them.
func TestAddTokenTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	const n = 8
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			_, token := token.Generate(token.Options{Name: fmt.Sprint("t", i)})
			if err := AddToken(path, token); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c, err := Load(path)
	if err != nil || len(c.Tokens) != n {
		t.Errorf("%d tokens, %v", len(c.Tokens), err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func add(t *testing.T, path string, token token.Token) {
	t.Helper()
	if err := AddToken(path, token); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".c.yaml*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func wantMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil || info.Mode() != want {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
