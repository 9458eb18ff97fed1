// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// source is the program's package.
const source = "github.com/lirios/ostree-upload/cmd/ostree-upload"

// folder holds what Main and faultyOnce build, and what Big makes.
var folder string

// Main is the TestMain of packages that run the program. It puts ostree-upload on
// the PATH: the one that OSTREE_UPLOAD names or, without, one that it builds, which
// watches for data races if the tests do.
func Main(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if folder, err = os.MkdirTemp("", "ostree-upload-test"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	// Some tests run the program as another user.
	bin := filepath.Join(folder, "bin")
	if err := errors.Join(os.Chmod(folder, 0o755), os.Mkdir(bin, 0o755)); err != nil {
		return 0, err
	}
	if err := provide(filepath.Join(bin, "ostree-upload")); err != nil {
		return 0, err
	}
	env := map[string]string{"PATH": bin + string(filepath.ListSeparator) + os.Getenv("PATH")}
	if os.Getenv("GORACE") == "" {
		// No second of waiting at each exit, and an exit code that says nothing of
		// races, as DataRaces does.
		env["GORACE"] = "atexit_sleep_ms=10 exitcode=0"
	}
	for name, value := range env {
		if err := os.Setenv(name, value); err != nil {
			return 0, err
		}
	}
	return m.Run(), nil
}

// provide puts the program to be tested at a path.
func provide(path string) error {
	if installed := os.Getenv("OSTREE_UPLOAD"); installed != "" {
		installed, err := filepath.Abs(installed)
		if err == nil {
			_, err = os.Stat(installed)
		}
		if err != nil {
			return fmt.Errorf("OSTREE_UPLOAD: %w", err)
		}
		return os.Symlink(installed, path)
	}
	if UnderRace {
		return Compile(nil, path, "-race")
	}
	return Compile(nil, path)
}

// Compile builds the program. Flags are those of go build; env is added to the
// environment.
func Compile(env []string, path string, flags ...string) error {
	args := append([]string{"build", "-buildvcs=false", "-o", path}, flags...)
	cmd := exec.Command("go", append(args, source)...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// noteSources reads each folder of the module's source. `go test` notes what a
// running test reads, and runs it again, not from its cache, when that has changed:
// the program is no import of the test.
var noteSources = sync.OnceValue(func() error {
	if os.Getenv("OSTREE_UPLOAD") != "" {
		return nil
	}
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(mod)))
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && slices.Contains([]string{".git", "bin", "testdata"}, e.Name()) {
			return fs.SkipDir
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // somebody's temporary file
		}
		return err
	})
})

// faultyOnce builds the program with internal/fault's injection.
var faultyOnce = sync.OnceValues(func() (string, error) {
	program := filepath.Join(folder, "faulty")
	return program, Compile(nil, program, "-tags", "faults")
})

// FaultyProgram is a build in which a Mishap can happen.
func FaultyProgram(t testing.TB) string {
	t.Helper()
	program, err := faultyOnce()
	must.OK(t, err)
	return program
}
