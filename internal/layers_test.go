// SPDX-License-Identifier: AGPL-3.0-or-later

// Package internal has only this test of how the tree hangs together.
package internal

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/lirios/ostree-upload/"

// root is the module's folder, seen from here.
const root = ".."

// TestImportsPointOneWay pins docs/design.md: the client and the server's side
// meet only in wire and ostree, and storage knows nothing of HTTP.
func TestImportsPointOneWay(t *testing.T) {
	imports := ourImports(t)

	// What a package may import of ours, itself.
	only := map[string][]string{
		"internal/gvariant":   {},
		"internal/inflate":    {},
		"internal/ostree":     {"internal/gvariant", "internal/inflate"},
		"internal/fault":      {},
		"internal/background": {},
		"internal/bucket":     {"internal/hint"},
		"internal/mirror":     {"internal/bucket", "internal/durable", "internal/fault", "internal/hint", "internal/ostree"},
		"internal/fsck":       {"internal/background", "internal/ostree"},
		"internal/forwarded":  {},
		"internal/durable":    {"internal/fault"},
		"internal/config":     {"internal/durable", "internal/forwarded", "internal/hint", "internal/token", "internal/units"},
		"internal/lastuse":    {"internal/durable"},
		"internal/token":      {},
		"internal/idtoken":    {"internal/config", "internal/token"},
		"internal/policy":     {"internal/config", "internal/gvariant"},
		"internal/units":      {},
		"internal/hint":       {},
		"internal/delta":      {},
		"internal/encode":     {"internal/ostree"},
		"internal/wire":       {"internal/ostree"},
		"internal/metrics":    {},
		"internal/prune":      {"journal", "internal/bucket", "internal/mirror", "internal/config", "internal/durable", "internal/fault", "internal/hint", "internal/libostree", "internal/ostree", "internal/wire"},
		"internal/server":     {"internal/after", "internal/bucket", "internal/mirror", "internal/console", "internal/metrics", "internal/prune", "internal/receive", "tusstore", "publish", "journal", "internal/config", "internal/durable", "internal/fault", "internal/fsck", "internal/hint", "internal/lastuse", "internal/libostree", "internal/ostree", "internal/policy", "internal/program", "internal/sign", "internal/token", "internal/wire", "internal/deltas"},
		"internal/after":      {"publish", "internal/config", "internal/program", "internal/wire", "internal/deltas", "internal/durable"},
		"internal/client":     {"internal/wire", "internal/ostree", "internal/fault", "internal/hint"},
		"internal/program":    {},
		"internal/sign":       {"internal/config", "internal/gvariant", "internal/program"},
		"internal/push":       {"internal/client", "internal/delta", "internal/encode", "internal/wire", "internal/ostree", "internal/fault", "internal/hint", "internal/token", "internal/units"},
		"internal/page":       {"internal/token", "internal/units", "internal/wire"},
		"internal/receive":    {"tusstore", "publish", "journal", "internal/wire", "internal/ostree", "internal/config", "internal/durable", "internal/encode", "internal/forwarded", "internal/idtoken", "internal/lastuse", "internal/token"},
		"internal/console":    {"internal/receive", "internal/ostree", "internal/config", "internal/durable", "internal/forwarded", "internal/token", "internal/units", "internal/wire"},
		"internal/libostree":  {"internal/durable", "internal/ostree"},
		"internal/deltas":     {"internal/durable", "internal/fault", "internal/hint", "internal/libostree", "internal/ostree", "internal/token", "internal/program"},
		"journal":             {"internal/durable", "internal/fault", "internal/ostree", "internal/wire"},
		"tusstore":            {"journal", "internal/background", "internal/delta", "internal/durable", "internal/encode", "internal/fault", "internal/hint", "internal/ostree", "internal/wire"},
		"publish":             {"journal", "internal/background", "internal/bucket", "internal/mirror", "internal/config", "internal/durable", "internal/fault", "internal/libostree", "internal/ostree", "internal/policy", "internal/program", "internal/sign", "internal/token", "internal/wire"},
		"cmd/ostree-upload":   {"internal/server", "internal/client", "internal/deltas", "internal/encode", "internal/push", "internal/config", "internal/fsck", "internal/hint", "internal/lastuse", "internal/page", "internal/token", "internal/units", "internal/wire"},
	}
	for pkg := range packages(t) {
		if _, listed := only[pkg]; !listed && !outside(pkg) {
			t.Errorf("%s has no row: what may it import?", pkg)
		}
	}
	for pkg, may := range only {
		for _, imported := range imports[pkg] {
			if !slices.Contains(may, imported) {
				t.Errorf("%s imports %s", pkg, imported)
			}
		}
	}

	// What it may not even reach.
	never := map[string][]string{
		"internal/client": {"internal/receive", "tusstore", "journal", "publish", "internal/libostree", "internal/config", "internal/push"},
		"internal/push":   {"internal/receive", "tusstore", "journal", "publish", "internal/libostree", "internal/config"},
		"journal":         {"tusstore", "publish", "internal/receive", "internal/push", "internal/client", "internal/libostree"},
		"tusstore":        {"publish", "internal/receive", "internal/push", "internal/client", "internal/libostree"},
		"publish":         {"tusstore", "internal/receive", "internal/push", "internal/client"},
		// Reaches the program as people do.
		"test/site": {"internal/server", "internal/receive", "tusstore", "journal", "publish", "internal/libostree", "internal/config"},
	}
	for pkg, forbidden := range never {
		for _, reached := range reach(imports, pkg) {
			if slices.Contains(forbidden, reached) {
				t.Errorf("%s imports %s, by way of others perhaps", pkg, reached)
			}
		}
	}
}

// outside tells what is in no binary of the product.
func outside(pkg string) bool {
	first, _, _ := strings.Cut(pkg, "/")
	return slices.Contains([]string{"test", "tools", "hack"}, first)
}

// TestHelpersOfTests pins that what tests and tools stand on is in no binary.
func TestHelpersOfTests(t *testing.T) {
	helpers := 0
	for pkg, imported := range ourImports(t) {
		if outside(pkg) {
			helpers++
			continue
		}
		for _, helper := range imported {
			if outside(helper) {
				t.Errorf("%s imports %s", pkg, helper)
			}
		}
	}
	if helpers == 0 {
		t.Error("found no helpers: is the test at its place?")
	}
}

// TestOnlyOneCgo pins that all C is in one small package: the rest builds and
// runs without libostree.
func TestOnlyOneCgo(t *testing.T) {
	walk(t, func(file string) {
		if filepath.Ext(file) != ".go" || packageOf(file) == "internal/libostree" {
			return
		}
		if slices.Contains(importsOf(t, file), "C") {
			t.Errorf("%s uses cgo", file)
		}
	})
}

// TestLicenceHeader pins that each source file says under which licence it is.
func TestLicenceHeader(t *testing.T) {
	sources := []string{".go", ".c", ".h", ".sh"}
	others := []string{"Makefile", "Dockerfile", "run"}
	walk(t, func(file string) {
		if !slices.Contains(sources, filepath.Ext(file)) && !slices.Contains(others, filepath.Base(file)) {
			return
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head := text[:min(len(text), 200)]
		if !bytes.Contains(head, []byte("SPDX-License-Identifier: AGPL-3.0-or-later\n")) {
			t.Errorf("%s has no licence header", file)
		}
	})
}

// ourImports maps each package of the module to those that its own files, not
// its tests, import from the module, whatever they are built for.
func ourImports(t *testing.T) map[string][]string {
	imports := map[string][]string{}
	walk(t, func(file string) {
		if filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			return
		}
		pkg := packageOf(file)
		for _, imported := range importsOf(t, file) {
			if name, ours := strings.CutPrefix(imported, module); ours {
				imports[pkg] = append(imports[pkg], name)
			}
		}
	})
	if len(imports["internal/push"]) == 0 {
		t.Fatal("found no imports: is the test at its place?")
	}
	return imports
}

// packages gives the folders that have Go files besides tests.
func packages(t *testing.T) map[string]bool {
	found := map[string]bool{}
	walk(t, func(file string) {
		if filepath.Ext(file) == ".go" && !strings.HasSuffix(file, "_test.go") {
			found[packageOf(file)] = true
		}
	})
	return found
}

func importsOf(t *testing.T, file string) []string {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var imports []string
	for _, spec := range f.Imports {
		imports = append(imports, strings.Trim(spec.Path.Value, `"`))
	}
	return imports
}

// reach lists all that pkg imports, itself or through others.
func reach(imports map[string][]string, pkg string) []string {
	var reached []string
	for todo := []string{pkg}; len(todo) > 0; todo = todo[1:] {
		for _, imported := range imports[todo[0]] {
			if !slices.Contains(reached, imported) {
				reached = append(reached, imported)
				todo = append(todo, imported)
			}
		}
	}
	return reached
}

// packageOf is the folder of a file, as import paths have it.
func packageOf(file string) string {
	return path.Dir(filepath.ToSlash(strings.TrimPrefix(file, root+string(filepath.Separator))))
}

// walk calls see for each file of the tree that people wrote.
func walk(t *testing.T, see func(file string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && slices.Contains([]string{".git", "bin", "testdata"}, e.Name()) {
			return fs.SkipDir
		}
		if e.Type().IsRegular() {
			see(file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
