// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// Full tells whether crash tests run at full length: CRASH=full, as in `make crash`.
func Full() bool { return os.Getenv("CRASH") == "full" }

// Seed draws a seed and logs it; CRASH_SEED repeats a run as far as the
// host's scheduler allows.
func Seed(t *testing.T) *rand.Rand {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("CRASH_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("CRASH_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TwoRefs are the refs that a push of crash tests moves together.
var TwoRefs = []string{"os/x86_64/devel", "os/x86_64/stable"}

// A Twin is a build repository of which both refs move with each push, to
// commits of trees that share most.
type Twin struct {
	T     *testing.T
	Build // objects and payload of the last commits alone
	Tree  string
	fill  func(n int) error // makes state n of the tree
	N     int
	Heads [][]string // commits of TwoRefs, for each push
}

// NewTwin makes a twin of which each push changes that many files of 20 kB.
func NewTwin(t *testing.T, files int) *Twin {
	t.Helper()
	dir := t.TempDir()
	w := &Twin{T: t, Build: Build{Repo: filepath.Join(dir, "build")}, Tree: filepath.Join(dir, "tree")}
	w.fill = func(n int) error { return SmallTree(w.Tree, files, fmt.Sprint("state ", n)) }
	return w
}

// Next commits another state of the tree to both refs.
func (w *Twin) Next() []string {
	w.T.Helper()
	must.OK(w.T, w.fill(w.N))
	must.OK(w.T, WriteFile(filepath.Join(w.Tree, "same"), []byte("in all of them"), 0o644))
	before := ObjectFiles(w.T, w.Repo)
	var heads []string
	for _, ref := range TwoRefs {
		must.OK(w.T, WriteFile(filepath.Join(w.Tree, "state"), []byte(fmt.Sprintln(ref, w.N)), 0o644))
		heads = append(heads, Commit(w.T, w.Repo, "archive", ref, w.Tree))
	}
	w.N++
	w.Heads = append(w.Heads, heads)
	w.Objects, w.Payload = 0, 0
	for path, size := range ObjectFiles(w.T, w.Repo) {
		if _, old := before[path]; !old {
			w.Objects++
			w.Payload += size
		}
	}
	return heads
}

// Arrived checks that both refs are at their last commits, with all objects of
// the build repository.
func (w *Twin) Arrived(s *Site) {
	w.T.Helper()
	for i, ref := range TwoRefs {
		s.AtHead(ref, w.Heads[len(w.Heads)-1][i])
	}
	all := Build{Repo: w.Repo, Objects: len(ObjectFiles(w.T, w.Repo))}
	sameObjects(w.T, &all, s.Prod)
}

// Sound checks what no crash may break, while no server runs: check finds
// nothing, and the repository is whole.
func (w *Twin) Sound(s *Site, when string) (notes string) {
	w.T.Helper()
	checked := s.Run(append([]string{"check"}, s.placeFlags()...)...)
	if checked.Exit != 0 {
		w.T.Fatalf("%s: check exits %d:\n%s%s", when, checked.Exit, checked.Stdout, checked.Stderr)
	}
	w.Whole(s, when)
	return checked.Stdout
}

// LeftBehind tells whether check's notes name more than staged objects that the
// janitor has not come to yet.
func LeftBehind(notes string) bool {
	for line := range strings.Lines(notes) {
		if strings.HasPrefix(line, "note:") && !strings.HasPrefix(line, "note: staged objects that no session needs: ") {
			return true
		}
	}
	return false
}

// Whole checks that ostree fsck passes and that each ref names one of its
// commits, old or new, which is there and not marked as partial. The server may
// run.
func (w *Twin) Whole(s *Site, when string) {
	w.T.Helper()
	s.Look()
	if out, err := Fsck(s.Prod); err != nil {
		w.T.Fatalf("%s: ostree fsck: %v\n%s", when, err, out)
	}
	for i, ref := range TwoRefs {
		b, err := os.ReadFile(filepath.Join(s.Prod, "refs", "heads", ref))
		if errors.Is(err, os.ErrNotExist) && w.N == 1 {
			continue // nothing was published yet
		}
		must.OK(w.T, err)
		c := strings.TrimSpace(string(b))
		known := c == w.Heads[w.N-1][i] || w.N > 1 && c == w.Heads[w.N-2][i]
		_, partial := os.Stat(PartialMark(s.Prod, c))
		_, missing := os.Stat(filepath.Join(s.Prod, "objects", c[:2], c[2:]+".commit"))
		if !known || partial == nil || missing != nil {
			w.T.Fatalf("%s: %s names %s: of ours %v, partial %v, commit missing %v", when, ref, c, known, partial == nil, missing != nil)
		}
	}
}

// NewRealTwin makes a twin of real files of this machine. Each push has 400 of
// them, of which the one before had all but 150.
func NewRealTwin(t *testing.T, pushes int) *Twin {
	t.Helper()
	const size, change = 400, 150
	files := realFiles(t, size+(pushes-1)*change)
	w := NewTwin(t, 0)
	w.fill = func(n int) error {
		if err := os.RemoveAll(w.Tree); err != nil {
			return err
		}
		for _, path := range files[n*change:][:size] {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := WriteFile(filepath.Join(w.Tree, path), b, 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	return w
}

// realFiles lists files of up to 256 kB below /usr/share.
func realFiles(t *testing.T, n int) (files []string) {
	t.Helper()
	must.OK(t, filepath.WalkDir("/usr/share", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if info, err := e.Info(); err != nil || info.Size() > 256<<10 {
			return err
		}
		if files = append(files, path); len(files) == n {
			return fs.SkipAll
		}
		return nil
	}))
	if len(files) < n {
		t.Skipf("/usr/share has %d files of such sizes, not %d", len(files), n)
	}
	return files
}
