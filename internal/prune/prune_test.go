// SPDX-License-Identifier: AGPL-3.0-or-later

package prune

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/test/must"
)

// A place is a repository to prune, and what commits are made of.
type place struct {
	t          *testing.T
	repo, tree string
	n          int
	journal    *journal.Journal
	keep       []config.Keep
}

func newPlace(t *testing.T, mode string) *place {
	dir := t.TempDir()
	p := &place{t: t, repo: filepath.Join(dir, "repo"), tree: filepath.Join(dir, "tree")}
	must.OSTree(t, "init", "--repo="+p.repo, "--mode="+mode)
	j, err := journal.OpenFile(filepath.Join(dir, "journal.db"))
	must.OK(t, err)
	t.Cleanup(func() { must.OK(t, j.Close()) })
	p.journal = j
	p.keep = []config.Keep{{Refs: []string{"os/**"}, Depth: 1}}
	p.write("same/file", "in all of them")
	return p
}

func (p *place) write(name, text string) {
	path := filepath.Join(p.tree, name)
	must.OK(p.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.OK(p.t, os.WriteFile(path, []byte(text), 0o644))
}

// commit commits n more states to a branch, each with a file and a folder of its own.
func (p *place) commit(ref string, n int) (commits []ostree.Checksum) {
	p.t.Helper()
	for range n {
		p.n++
		p.write("state", fmt.Sprint("state ", p.n))
		p.write(fmt.Sprintf("folder/%s/file", strings.Repeat("x", p.n)), fmt.Sprint("of state ", p.n))
		hex := must.OSTree(p.t, "commit", "--fsync=false", "--repo="+p.repo, "--branch="+ref, "--tree=dir="+p.tree,
			"--canonical-permissions", "--no-xattrs", "--no-bindings")
		must.OK(p.t, os.RemoveAll(filepath.Join(p.tree, "folder")))
		c, err := ostree.ParseChecksum(hex)
		must.OK(p.t, err)
		commits = append(commits, c)
	}
	return commits
}

func (p *place) config() Config {
	return Config{Repo: p.repo, Keep: p.keep, Journal: p.journal, Log: slog.New(slog.NewTextHandler(p.t.Output(), nil))}
}

// prune prunes, and checks that the dry run before foretold it.
func (p *place) prune() *wire.Pruned {
	p.t.Helper()
	foretold, err := Look(p.t.Context(), p.config())
	must.OK(p.t, err)
	done, err := Run(p.t.Context(), p.config(), true)
	must.OK(p.t, err)
	foretold.DryRun = false
	if a, b := fmt.Sprintf("%+v", foretold), fmt.Sprintf("%+v", done); a != b {
		p.t.Errorf("the dry run says %s\nbut it was      %s", a, b)
	}
	return done
}

// want checks that the repository has these commits, all that they need, and nothing
// else.
func (p *place) want(commits ...ostree.Checksum) {
	p.t.Helper()
	must.OSTree(p.t, "fsck", "--repo="+p.repo)
	fresh := filepath.Join(p.t.TempDir(), "fresh")
	repo, err := ostree.OpenRepo(p.repo)
	must.OK(p.t, err)
	must.OSTree(p.t, "init", "--repo="+fresh, "--mode="+repo.Mode())
	for _, c := range commits {
		must.OSTree(p.t, "pull-local", "--depth=0", "--repo="+fresh, p.repo, c.String())
	}
	want, got := objects(p.t, fresh), objects(p.t, p.repo)
	for _, n := range want {
		if !slices.Contains(got, n) {
			p.t.Errorf("%s is gone", n)
		}
	}
	for _, n := range got {
		if !slices.Contains(want, n) {
			p.t.Errorf("%s is still there", n)
		}
	}
}

// objects are those of a repository, by their names.
func objects(t *testing.T, path string) []string {
	t.Helper()
	repo, err := ostree.OpenRepo(path)
	must.OK(t, err)
	names := map[string]bool{}
	for i := range ostree.Folders {
		list, err := repo.Listed(byte(i))
		must.OK(t, err)
		for _, n := range list {
			names[n.String()] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// elsewhere makes two commits, which a ref below refs/ names that is not local.
func (p *place) elsewhere(folder string) []ostree.Checksum {
	p.t.Helper()
	const ref = "os/elsewhere"
	commits := p.commit(ref, 2)
	to := filepath.Join(p.repo, "refs", folder, ref)
	must.OK(p.t, os.MkdirAll(filepath.Dir(to), 0o755))
	must.OK(p.t, os.Rename(filepath.Join(p.repo, "refs/heads", ref), to))
	return commits
}

// TestRun pins what stays: what each kind of ref keeps, and what that needs.
func TestRun(t *testing.T) {
	for _, mode := range []string{"archive", "bare-user", "bare-user-only"} {
		t.Run(mode, func(t *testing.T) {
			p := newPlace(t, mode)
			x, y := p.commit("os/x", 5), p.commit("app/y", 3)
			z := p.commit("app/gone", 2)
			must.OSTree(t, "refs", "--repo="+p.repo, "--delete", "app/gone")
			mirrored, pulled := p.elsewhere("mirrors/org.example"), p.elsewhere("remotes/origin")
			must.OSTree(t, "refs", "--repo="+p.repo, "--alias", "--create=stable", "os/x")
			must.OSTree(t, "commit", "--repo="+p.repo, "--orphan", "--tree=dir="+p.tree)
			r := p.prune()
			p.want(slices.Concat(x[3:], y, mirrored, pulled)...)
			want := wire.Pruned{Rules: 1, Refs: []wire.PrunedRef{{Ref: "os/x", Keeps: 2, Removes: 3}}, Whole: 3, Unreached: len(z) + 1, Commits: 3 + len(z) + 1}
			want.Objects, want.Bytes = r.Objects, r.Bytes
			if a, b := fmt.Sprintf("%+v", *r), fmt.Sprintf("%+v", want); a != b || r.Objects == 0 || r.Bytes == 0 {
				t.Errorf("it says %s\nwant    %s", a, b)
			}
			if r = p.prune(); r.Commits+r.Objects != 0 {
				t.Errorf("the second run found more: %+v", r)
			}
		})
	}
}

// TestBatches pins that the lock is let go after each batch, and that what was decided
// before is looked at again.
func TestBatches(t *testing.T) {
	p := newPlace(t, "archive")
	x := p.commit("os/x", 6)
	r, err := begin(p.config())
	must.OK(t, err)
	r.batch, r.pause = 0, 0
	must.OK(t, r.look(t.Context(), true))
	if len(r.going) != 4 || r.going[0] != x[0] {
		t.Fatalf("%d commits go, the first is %s", len(r.going), r.going[0])
	}
	must.OSTree(t, "refs", "--repo="+p.repo, "--create=os/saved", x[2].String())
	y := p.commit("app/y", 1) // needs objects that are there
	must.OK(t, r.remove(t.Context()))
	p.want(slices.Concat(x[1:3], x[4:], y)...)
}

// TestMovedMeanwhile pins that a ref which moves to a commit that came after the listing
// hides nothing of what else is to be decided.
func TestMovedMeanwhile(t *testing.T) {
	p := newPlace(t, "archive")
	x := p.commit("os/x", 3)
	r, err := begin(p.config())
	must.OK(t, err)
	must.OK(t, r.list(t.Context()))
	next := p.commit("os/x", 2)
	must.OK(t, r.choose())
	must.OK(t, r.walkStaying(t.Context()))
	if len(r.going) != len(x) {
		t.Errorf("%d commits go, want %d", len(r.going), len(x))
	}
	must.OK(t, r.remove(t.Context()))
	p.want(next...)
}

// TestNewCommits pins that an object which is of use again stays: that of a commit that
// came after the look, and that no ref names yet.
func TestNewCommits(t *testing.T) {
	p := newPlace(t, "archive")
	p.write("again", "what comes again")
	p.commit("os/old", 1)
	must.OK(t, os.Remove(filepath.Join(p.tree, "again")))
	must.OSTree(t, "refs", "--repo="+p.repo, "--delete", "os/old")
	x := p.commit("os/x", 1)
	r, err := begin(p.config())
	must.OK(t, err)
	must.OK(t, r.look(t.Context(), true))
	p.write("again", "what comes again")
	orphan := must.OSTree(t, "commit", "--repo="+p.repo, "--orphan", "--tree=dir="+p.tree, "--canonical-permissions", "--no-xattrs")
	must.OK(t, r.remove(t.Context()))
	c, err := ostree.ParseChecksum(orphan)
	must.OK(t, err)
	p.want(x[0], c)
}

// open opens a session.
func (p *place) open(old, new ostree.Checksum) string {
	p.t.Helper()
	s, err := p.journal.Create(journal.Session{Token: "ci", Refs: []wire.Ref{{Ref: "app/other", Old: old.String(), New: new.String()}}}, time.Hour)
	must.OK(p.t, err)
	return s.ID
}

// TestSessions pins that what a session relies on stays until it ends.
func TestSessions(t *testing.T) {
	p := newPlace(t, "archive")
	x := p.commit("os/x", 8)
	id := p.open(x[0], x[1])
	repo, err := ostree.OpenRepo(p.repo)
	must.OK(t, err)
	file := lastFile(t, repo, x[4])
	must.OK(t, p.journal.Add(id, []journal.Entry{
		{Name: ostree.Name{Checksum: x[2], Type: ostree.CommitObject}, Status: journal.Present},
		{Name: file, Status: journal.Present},
	}))
	if r := p.prune(); r.Held != 3 || r.Commits != 3 {
		t.Errorf("it says %+v", r)
	}
	if there, err := repo.Has(file); err != nil || !there {
		t.Errorf("the file that a session was told of is gone: %v", err)
	}
	_, err = p.journal.Move(id, journal.Aborted, nil)
	must.OK(t, err)
	p.prune()
	p.want(x[6:]...)
}

// lastFile is a file of a commit that no other one has.
func lastFile(t *testing.T, repo *ostree.Repo, c ostree.Checksum) (file ostree.Name) {
	t.Helper()
	must.OK(t, repo.Walk(t.Context(), []ostree.Checksum{c}, ostree.WalkOptions{}, func(n ostree.Name) error {
		if n.Type == ostree.File {
			file = n
		}
		return nil
	}))
	return file
}

// TestReplaced pins that what a ref named when a session was opened stays as long as
// that lives: its client sends nothing of what was there.
func TestReplaced(t *testing.T) {
	p := newPlace(t, "archive")
	p.keep[0].Depth = 0
	x := p.commit("os/x", 2)
	living := p.open(sum("not here", 0), sum("not here", 1))
	moved, err := p.journal.Create(journal.Session{Token: "ci", Refs: []wire.Ref{{Ref: "os/x", Old: x[1].String()}}}, time.Hour)
	must.OK(t, err)
	next := p.commit("os/x", 2)
	for _, to := range []journal.State{journal.Verifying, journal.Publishing, journal.Published} {
		_, err := p.journal.Move(moved.ID, to, nil)
		must.OK(t, err)
	}
	p.prune()
	p.want(x[1], next[1])
	_, err = p.journal.Move(living, journal.Aborted, nil)
	must.OK(t, err)
	p.prune()
	p.want(next[1])
}

// TestDamaged pins that nothing is removed while nobody can tell what a commit that
// stays needs, and that a damaged commit that goes is no obstacle.
func TestDamaged(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, path string)
		want  string
	}{
		{"gone", func(t *testing.T, path string) { must.OK(t, os.Remove(path)) }, "is not in repository"},
		{"damaged", func(t *testing.T, path string) { must.OK(t, os.WriteFile(path, []byte("damaged"), 0o644)) }, "does not match its checksum"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t, "archive")
			x := p.commit("os/x", 4)
			repo, err := ostree.OpenRepo(p.repo)
			must.OK(t, err)
			b, err := repo.Metadata(ostree.Name{Checksum: x[3], Type: ostree.CommitObject})
			must.OK(t, err)
			commit, err := ostree.ParseCommit(b)
			must.OK(t, err)
			tt.spoil(t, filepath.Join(p.repo, "objects", ostree.Name{Checksum: commit.Tree, Type: ostree.DirTree}.Path()))
			before := objects(t, p.repo)
			_, err = Run(t.Context(), p.config(), true)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), x[3].String()) || !strings.Contains(hint.Of(err), "push --repair") {
				t.Errorf("the error is %v (%s)", err, hint.Of(err))
			}
			if !slices.Equal(objects(t, p.repo), before) {
				t.Error("something was removed")
			}
		})
		t.Run(tt.name+" and goes", func(t *testing.T) {
			p := newPlace(t, "archive")
			x := p.commit("os/x", 4)
			tt.spoil(t, filepath.Join(p.repo, "objects", ostree.Name{Checksum: x[1], Type: ostree.CommitObject}.Path()))
			_, err := Run(t.Context(), p.config(), true)
			must.OK(t, err)
			p.want(x[2:]...)
		})
	}
}

// TestPartial pins that a commit that is marked as incomplete keeps what there is of it.
func TestPartial(t *testing.T) {
	p := newPlace(t, "archive")
	x := p.commit("os/x", 1)
	repo, err := ostree.OpenRepo(p.repo)
	must.OK(t, err)
	file := lastFile(t, repo, x[0])
	must.OK(t, os.Remove(filepath.Join(p.repo, "objects", file.Path())))
	must.OK(t, os.WriteFile(filepath.Join(p.repo, "state", x[0].String()+".commitpartial"), nil, 0o644))
	before := objects(t, p.repo)
	p.prune()
	if !slices.Equal(objects(t, p.repo), before) {
		t.Error("something was removed")
	}
}

// TestLostRef pins that a ref whose commit is gone keeps all else from being removed.
func TestLostRef(t *testing.T) {
	p := newPlace(t, "archive")
	x := p.commit("os/x", 3)
	must.OK(t, os.Remove(filepath.Join(p.repo, "objects", ostree.Name{Checksum: x[2], Type: ostree.CommitObject}.Path())))
	_, err := Look(t.Context(), p.config())
	if err == nil || !strings.Contains(err.Error(), "ref os/x names commit "+x[2].String()) {
		t.Errorf("the error is %v", err)
	}
}

// TestWithCommits pins what goes together with a commit: its signatures, the mark that
// it is incomplete, static deltas to it; and that a tombstone is left if the repository
// wants one.
func TestWithCommits(t *testing.T) {
	p := newPlace(t, "archive")
	x := p.commit("os/x", 4)
	must.OSTree(t, "config", "--repo="+p.repo, "set", "core.tombstone-commits", "true")
	must.OSTree(t, "static-delta", "generate", "--repo="+p.repo, "--from="+x[0].String(), "--to="+x[1].String())
	must.OSTree(t, "static-delta", "generate", "--repo="+p.repo, "--empty", "--to="+x[1].String())
	must.OSTree(t, "static-delta", "generate", "--repo="+p.repo, "--from="+x[1].String(), "--to="+x[3].String())
	must.OSTree(t, "commit", "--repo="+p.repo, "--orphan", "--tree=dir="+p.tree) // has none
	meta := filepath.Join(p.repo, "objects", ostree.Name{Checksum: x[0], Type: ostree.CommitMeta}.Path())
	must.OK(t, os.WriteFile(meta, nil, 0o644))
	partial := filepath.Join(p.repo, "state", x[1].String()+".commitpartial")
	must.OK(t, os.WriteFile(partial, nil, 0o644))
	if r := p.prune(); r.Deltas != 2 {
		t.Errorf("%d static deltas removed, want 2", r.Deltas)
	}
	p.want(x[2:]...)
	for _, path := range []string{meta, partial} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	if list := must.OSTree(t, "static-delta", "list", "--repo="+p.repo); list != x[1].String()+"-"+x[3].String() {
		t.Errorf("deltas left: %s", list)
	}
	tombstone := strings.TrimSuffix(meta, ".commitmeta") + ".tombstone-commit"
	if _, err := os.Stat(tombstone); err != nil {
		t.Errorf("no tombstone: %v", err)
	}
}

// TestLocked pins that a lock that others hold ends the run without harm, and that a
// repository without locks is refused.
func TestLocked(t *testing.T) {
	p := newPlace(t, "archive")
	p.commit("os/x", 4)
	must.OSTree(t, "config", "--repo="+p.repo, "set", "core.lock-timeout-secs", "0")
	other, err := libostree.Open(p.repo)
	must.OK(t, err)
	defer other.Close()
	must.OK(t, other.Lock(context.Background(), libostree.Shared))
	if _, err := Run(t.Context(), p.config(), true); !errors.Is(err, libostree.ErrLocked) {
		t.Errorf("with the lock held: %v", err)
	}
	must.OK(t, other.Unlock(libostree.Shared))
	must.OSTree(t, "config", "--repo="+p.repo, "set", "core.locking", "false")
	if _, err := Run(t.Context(), p.config(), true); !errors.Is(err, errNoLock) {
		t.Errorf("without locks: %v", err)
	}
}
