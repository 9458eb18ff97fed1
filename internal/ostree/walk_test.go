// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// history is an archive repository with three commits of os/test: the second
// changes one file deep in the tree, the third has the first one's tree.
func history(t *testing.T) (*Repo, []Checksum) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "repo")
	ostree(t, "init", "--repo="+path, "--mode=archive")
	tree := filepath.Join(t.TempDir(), "tree")
	for _, f := range []string{"a/b/c/file", "a/other", "d/e/file", "top"} {
		writeFile(t, filepath.Join(tree, f), []byte(f))
	}
	must.OK(t, os.Chmod(filepath.Join(tree, "d"), 0o700))
	commits := make([]Checksum, 3)
	for i, content := range []string{"a/b/c/file", "changed", "a/b/c/file"} {
		writeFile(t, filepath.Join(tree, "a/b/c/file"), []byte(content))
		commits[i] = commitTree(t, path, ModeArchive, tree, "os/test")
	}
	return openedRepo(t, path), commits
}

// walked collects what a walk visits, and fails if that is anything twice.
func walked(t *testing.T, r *Repo, opt WalkOptions, commits ...Checksum) []Name {
	t.Helper()
	var names []Name
	seen := map[Name]bool{}
	err := r.Walk(context.Background(), commits, opt, func(n Name) error {
		if seen[n] {
			t.Errorf("%s was visited twice", n)
		}
		seen[n] = true
		names = append(names, n)
		return nil
	})
	must.OK(t, err)
	slices.SortFunc(names, Name.Compare)
	return names
}

func count(names []Name) map[Type]int {
	m := map[Type]int{}
	for _, n := range names {
		m[n.Type]++
	}
	return m
}

// TestWalkAll pins that all of history is everything there is, as `ostree prune`
// sees it too: nothing is unreachable here.
func TestWalkAll(t *testing.T) {
	r, c := history(t)
	all := objects(t, r)
	slices.SortFunc(all, Name.Compare)
	if got := walked(t, r, WalkOptions{Depth: -1}, c[2]); !slices.Equal(got, all) {
		t.Errorf("got %d objects of %d", len(got), len(all))
	}
	if got := walked(t, r, WalkOptions{Depth: -1}, c[0], c[2], c[1], c[2]); !slices.Equal(got, all) {
		t.Errorf("several commits: got %d objects of %d", len(got), len(all))
	}
}

// TestWalkCounts pins what depth and the other side's commits leave out.
func TestWalkCounts(t *testing.T) {
	r, c := history(t)
	have := func(cs ...Checksum) map[Checksum]bool {
		m := map[Checksum]bool{{9}: true, {8}: false} // one that is not here, one that is no claim
		for _, x := range cs {
			m[x] = true
		}
		return m
	}
	for name, tt := range map[string]struct {
		opt  WalkOptions
		want map[Type]int
	}{
		"one commit":    {WalkOptions{}, map[Type]int{CommitObject: 1, DirTree: 6, DirMeta: 2, File: 4}},
		"two commits":   {WalkOptions{Depth: 1}, map[Type]int{CommitObject: 2, DirTree: 10, DirMeta: 2, File: 5}},
		"update":        {WalkOptions{Depth: -1, Have: have(c[1])}, map[Type]int{CommitObject: 1, DirTree: 4, File: 1}},
		"same tree":     {WalkOptions{Depth: -1, Have: have(c[0])}, map[Type]int{CommitObject: 2, DirTree: 4, File: 1}},
		"rollback":      {WalkOptions{Depth: 0, Have: have(c[0])}, map[Type]int{CommitObject: 1}},
		"nothing to do": {WalkOptions{Depth: -1, Have: have(c[2])}, map[Type]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := count(walked(t, r, tt.opt, c[2]))
			for typ := File; typ <= CommitMeta; typ++ {
				if got[typ] != tt.want[typ] {
					t.Errorf("%d of %s, want %d", got[typ], typ, tt.want[typ])
				}
			}
		})
	}
}

// TestWalkCommitMeta pins that signatures travel, also those of a commit that
// the other side has already.
func TestWalkCommitMeta(t *testing.T) {
	r, c := history(t)
	ostree(t, "sign", "--repo="+r.Path(), "--sign-type=dummy", c[2].String(), "key")
	ostree(t, "sign", "--repo="+r.Path(), "--sign-type=dummy", c[1].String(), "key")
	if got := count(walked(t, r, WalkOptions{Depth: -1}, c[2])); got[CommitMeta] != 2 {
		t.Errorf("%v", got)
	}
	got := walked(t, r, WalkOptions{Depth: -1, Have: map[Checksum]bool{c[2]: true}}, c[2])
	if len(got) != 1 || got[0] != (Name{c[2], CommitMeta}) {
		t.Errorf("%v", got)
	}
}

// TestWalkShallow pins that history ends where a parent is missing, partial or
// deleted; the given commits themselves may be neither.
func TestWalkShallow(t *testing.T) {
	for name, spoil := range map[string]func(r *Repo, c Checksum){
		"missing": func(r *Repo, c Checksum) {},
		"partial": func(r *Repo, c Checksum) {
			writeFile(t, filepath.Join(r.Path(), "state", c.String()+".commitpartial"), nil)
		},
		"tombstone": func(r *Repo, c Checksum) {
			writeFile(t, filepath.Join(r.Path(), "objects", loosePath(Name{Checksum: c}, "tombstone-commit")), nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, c := history(t)
			spoil(r, c[1])
			if name == "missing" {
				must.OK(t, os.Remove(r.objectPath(Name{c[1], CommitObject})))
			}
			if got := count(walked(t, r, WalkOptions{Depth: -1}, c[2])); got[CommitObject] != 1 {
				t.Errorf("%v", got)
			}
			err := r.Walk(context.Background(), []Checksum{c[2], c[1]}, WalkOptions{}, func(Name) error { return nil })
			if err == nil || !strings.Contains(err.Error(), "commit "+c[1].String()) {
				t.Errorf("given commit: %v", err)
			}
			if old, err := r.IsAncestor(c[0], c[2]); old != (name != "missing") || err != nil {
				t.Errorf("IsAncestor: %v %v", old, err)
			}
		})
	}
}

// TestWalkDamage pins that missing and damaged metadata is named, with the
// commit that needs it, and is not skipped over.
func TestWalkDamage(t *testing.T) {
	damage := map[string]func(path string){
		"missing": func(path string) { must.OK(t, os.Remove(path)) },
		"damaged": func(path string) { writeFile(t, path, []byte("x")) },
	}
	for name, spoil := range damage {
		for _, typ := range []Type{CommitObject, DirTree, DirMeta} {
			t.Run(name+" "+typ.String(), func(t *testing.T) {
				r, c := history(t)
				for _, n := range walked(t, r, WalkOptions{}, c[2]) {
					if n.Type != typ {
						continue
					}
					spoil(r.objectPath(n))
					err := r.Walk(context.Background(), []Checksum{c[2]}, WalkOptions{Depth: -1}, func(Name) error { return nil })
					if err == nil || !strings.Contains(err.Error(), n.String()) || !strings.Contains(err.Error(), "commit "+c[2].String()) {
						t.Errorf("got %v", err)
					}
					break
				}
			})
		}
	}
}

// TestWalkStops pins that a visitor's error comes back as it is, and that a
// cancelled context ends the walk.
func TestWalkStops(t *testing.T) {
	r, c := history(t)
	stop := errors.New("enough")
	for left := range 10 {
		err := r.Walk(context.Background(), c[2:], WalkOptions{}, func(Name) error {
			if left--; left < 0 {
				return stop
			}
			return nil
		})
		if err != stop {
			t.Errorf("got %v", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Walk(ctx, c[2:], WalkOptions{}, func(Name) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
