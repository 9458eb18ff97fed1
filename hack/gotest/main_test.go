// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// files is a module with tests that fail, panic, are skipped and pass, and one
// package that does not build.
var files = map[string]string{
	"go.mod":         "module m\n",
	"fail/a_test.go": "package fail\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Run(\"sub\", func(t *testing.T) { t.Error(\"broken\") }) }\n",
	"panic/a_test.go": "package panics\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Log(\"just before\"); panic(\"odd\") }\n" +
		"func TestB(t *testing.T) {}\n",
	"build/a_test.go": "package build\nfunc f() { missing() }\n",
	"pass/a_test.go": "package pass\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Log(\"noise\") }\n" +
		"func TestB(t *testing.T) { t.Skip(\"needs a moon\") }\nfunc TestC(t *testing.T) { t.SkipNow() }\n",
}

// What failed is shown in full, what passed is not, each skipped test has its
// reason, and the exit code is that of `go test`.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		packages string
		exit     int
		has, not []string
	}{
		{"./...", 1, []string{"a_test.go:3: broken", "just before", "panic: odd", "undefined: missing", "FAIL\tm/build", "ok   m/pass"}, []string{"noise"}},
		{"./pass", 0, []string{"ok   m/pass", "2 skipped:", "m/pass TestB: a_test.go:4: needs a moon", "m/pass TestC: it does not say why"}, []string{"noise", "FAIL"}},
	} {
		var out strings.Builder
		cmd := exec.Command("go", "test", "-json", c.packages)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-vet=off", "GOWORK=off")
		err := run(cmd, &out)
		if got := cmd.ProcessState.ExitCode(); got != c.exit {
			t.Errorf("%s: exit code %d, want %d: %v", c.packages, got, c.exit, err)
		}
		for _, s := range c.has {
			if !strings.Contains(out.String(), s) {
				t.Errorf("%s: no %q in\n%s", c.packages, s, &out)
			}
		}
		for _, s := range c.not {
			if strings.Contains(out.String(), s) {
				t.Errorf("%s: %q in\n%s", c.packages, s, &out)
			}
		}
	}
}
