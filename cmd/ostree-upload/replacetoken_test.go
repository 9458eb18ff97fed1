// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/token"
)

// gentoken --replace prints another secret for the name, keeps refs and scopes, and
// says what to do where that cannot be.
func TestGentokenReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	gentoken := func(exit int, args ...string) (plain, said string) {
		t.Helper()
		var stdout, stderr strings.Builder
		if got := run(append([]string{"gentoken", "-c", path}, args...), &stdout, &stderr); got != exit {
			t.Fatalf("%q: exit %d, stderr %q", args, got, stderr.String())
		}
		return strings.TrimSpace(stdout.String()), stderr.String()
	}
	old, _ := gentoken(0, "--name", "ci", "--ref", "os/**", "--scope", "push", "--scope", "force")
	renewed, said := gentoken(0, "--name", "ci", "--replace")
	if !strings.Contains(said, "replaced token ci in "+path) {
		t.Errorf("stderr %q", said)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := token.Find(c.Tokens, renewed, time.Now())
	if err != nil || len(c.Tokens) != 1 || !got.May(token.Force) || !got.MayPush("os/a") || got.MayPush("x") {
		t.Errorf("%+v, %v", c.Tokens, err)
	}
	if _, err := token.Find(c.Tokens, old, time.Now()); err == nil {
		t.Error("the old secret is still good")
	}
	for said, args := range map[string][]string{
		"--replace needs the --name": {"--replace"},
		"leave --replace out":        {"--replace", "--name", "other"},
	} {
		exit := 1
		if len(args) == 1 {
			exit = 2
		}
		if plain, stderr := gentoken(exit, args...); plain != "" || !strings.Contains(stderr, said) {
			t.Errorf("%q: stdout %q, stderr %q", args, plain, stderr)
		}
	}
}
