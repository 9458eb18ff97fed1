// SPDX-License-Identifier: AGPL-3.0-or-later

package deltas

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

const ref = "os/stable"

// A keeper makes deltas of a repository in this process.
type keeper struct {
	t *testing.T
	Keeper
	commits []string // of the ref, the oldest first
}

func newKeeper(t *testing.T, commits int) *keeper {
	k := &keeper{t: t, Keeper: Keeper{Repo: filepath.Join(t.TempDir(), "repo"), State: t.TempDir(), Log: slog.New(slog.DiscardHandler)}}
	k.Generate = func(_ context.Context, _ Settings, d Delta, folder string) error {
		return Generate(k.Repo, d, folder, 16)
	}
	k.commits = site.Chain(t, k.Repo, ref, commits)
	return k
}

func (k *keeper) do(s Settings) (changed bool) {
	k.t.Helper()
	must.OK(k.t, k.Do(k.t.Context(), s))
	changed, err := k.Untold()
	must.OK(k.t, err)
	return changed
}

// there lists the deltas of the repository, as libostree does, and sees that nothing
// is left of making them.
func (k *keeper) there() []string {
	k.t.Helper()
	left, err := filepath.Glob(filepath.Join(k.Repo, "tmp", "ostree-upload-*"))
	must.OK(k.t, err)
	if len(left) > 0 {
		k.t.Errorf("left in tmp: %v", left)
	}
	out := must.OSTree(k.t, "static-delta", "list", "--repo="+k.Repo)
	if out == "(No static deltas)" {
		return nil
	}
	return slices.Sorted(strings.FieldsSeq(out))
}

func (k *keeper) wantThere(want ...string) {
	k.t.Helper()
	slices.Sort(want)
	if got := k.there(); !slices.Equal(got, want) {
		k.t.Errorf("deltas %v, want %v", got, want)
	}
}

// wish are settings with one rule.
func wish(keep time.Duration, from ...int) Settings {
	return Settings{Rules: []Rule{{Refs: []string{"os/**"}, From: from}}, AtOnce: 2, Keep: keep}
}

// What is made are the deltas that the rules ask for, and none from before the history
// begins or for another ref; the second time there is nothing to do.
func TestMade(t *testing.T) {
	k := newKeeper(t, 4)
	c := k.commits
	site.Branch(t, k.Repo, "other/ref", c[1])
	site.Branch(t, k.Repo, "os/testing", c[3]) // the same commit
	if !k.do(wish(0, 0, 1, 3, 4)) {
		t.Error("nothing has changed")
	}
	k.wantThere(c[3], c[2]+"-"+c[3], c[0]+"-"+c[3])
	must.OK(t, k.Told())
	if k.do(wish(0, 0, 1, 3, 4)) {
		t.Error("something has changed the second time")
	}
	must.OSTree(t, "fsck", "--repo="+k.Repo)
}

// A client that requires deltas comes from nothing to a commit, and from there to the
// next one, where there is a summary. If it is told the commit, it finds one by the indexes.
func TestClientsUseThem(t *testing.T) {
	for _, summary := range []bool{false, true} {
		k := newKeeper(t, 2)
		var asked sync.Map
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Store(path.Base(r.URL.Path), true)
			http.FileServer(http.Dir(k.Repo)).ServeHTTP(w, r)
		}))
		defer web.Close()
		client := filepath.Join(t.TempDir(), "client")
		must.OSTree(t, "init", "--repo="+client, "--mode=bare-user-only")
		must.OSTree(t, "remote", "add", "--repo="+client, "--no-gpg-verify", "prod", web.URL)
		for i, from := range []int{0, 1} {
			site.Branch(t, k.Repo, ref, k.commits[i])
			k.do(wish(0, from))
			pull := []string{"pull", "--repo=" + client, "prod", ref + "@" + k.commits[i]}
			if summary {
				must.OSTree(t, "summary", "--repo="+k.Repo, "-u")
				pull = []string{"pull", "--repo=" + client, "--require-static-deltas", "prod", ref}
			}
			must.OSTree(t, pull...)
			if at := must.OSTree(t, "rev-parse", "--repo="+client, "prod:"+ref); at != k.commits[i] {
				t.Errorf("the client is at %s, want %s", at, k.commits[i])
			}
		}
		must.OSTree(t, "fsck", "--repo="+client)
		if _, delta := asked.Load("superblock"); !delta {
			t.Errorf("summary %v: the client took no delta", summary)
		}
	}
}

// What is superseded stays for its time, then goes; what others made stays.
func TestSuperseded(t *testing.T) {
	k := newKeeper(t, 3)
	c := k.commits
	others := c[0] + "-" + c[1]
	site.Branch(t, k.Repo, ref, c[1])
	must.OSTree(t, "static-delta", "generate", "--repo="+k.Repo, "--from="+c[0], c[1])
	k.do(wish(time.Hour, 0, 1))
	k.wantThere(others, c[1])
	site.Branch(t, k.Repo, ref, c[2])
	k.do(wish(time.Hour, 0, 1))
	k.wantThere(others, c[1], c[2], c[1]+"-"+c[2])
	must.OK(t, k.Told())
	if !k.do(wish(0, 0, 1)) {
		t.Error("nothing has changed")
	}
	k.wantThere(others, c[2], c[1]+"-"+c[2])
	if got := must.OSTree(t, "static-delta", "indexes", "--repo="+k.Repo); strings.Contains(got, k.commits[0]) {
		t.Errorf("indexes: %s", got)
	}
	site.Branch(t, k.Repo, ref, c[1]) // rolled back
	k.do(wish(time.Hour, 0, 1))
	site.Branch(t, k.Repo, ref, c[2])
	k.do(wish(time.Hour, 0, 1))
	rec, err := readRecord(k.State)
	must.OK(t, err)
	for d, e := range rec.Deltas {
		if (d.To.String() == c[2]) != e.Superseded.IsZero() {
			t.Errorf("%s: superseded at %v", d, e.Superseded)
		}
	}
}

// A ref that moves while a delta to it is made gets one to where it is now, and the
// work on the old one ends.
func TestMovedMeanwhile(t *testing.T) {
	k := newKeeper(t, 3)
	site.Branch(t, k.Repo, ref, k.commits[1])
	generate, ended := k.Generate, 0
	k.Generate = func(ctx context.Context, s Settings, d Delta, folder string) error {
		if d.To.String() == k.commits[1] {
			site.Branch(t, k.Repo, ref, k.commits[2])
			<-ctx.Done()
			ended++
			return ctx.Err()
		}
		return generate(ctx, s, d, folder)
	}
	k.do(wish(0, 1))
	k.wantThere(k.commits[1] + "-" + k.commits[2])
	if ended != 1 {
		t.Errorf("%d were ended, want 1", ended)
	}
}

// A delta that cannot be made holds up no other, and nothing is left of it.
func TestFailed(t *testing.T) {
	k := newKeeper(t, 3)
	generate, broken := k.Generate, errors.New("it is broken")
	k.Generate = func(ctx context.Context, s Settings, d Delta, folder string) error {
		if d.Source() == nil {
			must.OK(t, os.WriteFile(filepath.Join(folder, "0"), []byte("half"), 0o644))
			return broken
		}
		return generate(ctx, s, d, folder)
	}
	err := k.Do(t.Context(), wish(0, 0, 1))
	changed, untold := k.Untold()
	must.OK(t, untold)
	if !changed || !errors.Is(err, broken) || !strings.Contains(err.Error(), k.commits[2]) {
		t.Errorf("changed %v, error %v", changed, err)
	}
	k.wantThere(k.commits[1] + "-" + k.commits[2])
	k.Generate = generate
	k.do(wish(0, 0, 1))
	k.wantThere(k.commits[2], k.commits[1]+"-"+k.commits[2])
}

// Where the disk is as full as it may be, nothing is made, and what is being made ends.
func TestNoRoom(t *testing.T) {
	k := newKeeper(t, 2)
	full := wish(0, 1)
	full.MinFree = 1 << 62
	var none *noRoomError
	if err := k.Do(t.Context(), full); !errors.As(err, &none) || !strings.Contains(err.Error(), "limits.min-free-space") {
		t.Errorf("error %v", err)
	}
	k.wantThere()
	k.Generate = func(ctx context.Context, _ Settings, _ Delta, folder string) error {
		must.OSTree(t, "config", "set", "--repo="+k.Repo, "core.min-free-space-size", "99999TB")
		must.OK(t, os.WriteFile(filepath.Join(folder, "0"), []byte("half"), 0o644))
		<-ctx.Done()
		return ctx.Err()
	}
	if err := k.Do(t.Context(), wish(0, 1)); !errors.As(err, &none) || !strings.Contains(err.Error(), "core.min-free-space-size") {
		t.Errorf("error %v", err)
	}
	k.wantThere()
}

// A stop ends what is being made, and the next run makes it.
func TestStopped(t *testing.T) {
	k := newKeeper(t, 2)
	generate := k.Generate
	ctx, stop := context.WithCancel(t.Context())
	k.Generate = func(ctx context.Context, _ Settings, _ Delta, _ string) error {
		stop()
		<-ctx.Done()
		return ctx.Err()
	}
	if err := k.Do(ctx, wish(0, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	k.wantThere()
	k.Generate = generate
	k.do(wish(0, 1))
	k.wantThere(k.commits[0] + "-" + k.commits[1])
}

// Commits of which the repository has only a part are neither end of a delta.
func TestPartialCommits(t *testing.T) {
	k := newKeeper(t, 3)
	must.OK(t, os.WriteFile(site.PartialMark(k.Repo, k.commits[1]), nil, 0o644))
	k.do(wish(0, 1, 2))
	k.wantThere(k.commits[0] + "-" + k.commits[2])
}

// Deltas of the record are there after something that deletes all of them, and only
// those.
func TestShelter(t *testing.T) {
	k := newKeeper(t, 2)
	must.OSTree(t, "static-delta", "generate", "--repo="+k.Repo, "--empty", ref)
	k.do(wish(0, 1))
	broken := errors.New("it is broken")
	for _, failed := range []error{nil, broken} {
		err := k.Shelter(func() error { return errors.Join(failed, os.RemoveAll(filepath.Join(k.Repo, "deltas"))) })
		if !errors.Is(err, failed) {
			t.Errorf("error %v, want %v", err, failed)
		}
		k.wantThere(k.commits[0] + "-" + k.commits[1])
	}
	must.OSTree(t, "summary", "--repo="+k.Repo, "-u") // reads all superblocks
	// A crash in the middle: the next run finds them.
	rec, err := readRecord(k.State)
	must.OK(t, err)
	must.OK(t, (&run{Keeper: &k.Keeper, rec: rec}).link())
	must.OK(t, os.RemoveAll(filepath.Join(k.Repo, "deltas")))
	k.Generate = nil
	k.do(wish(0, 1))
	k.wantThere(k.commits[0] + "-" + k.commits[1])
}

// A commit that is damaged is told, and holds up no other.
func TestDamagedCommit(t *testing.T) {
	k := newKeeper(t, 1)
	bad := site.Chain(t, k.Repo, "os/bad", 2)[0]
	must.OK(t, os.WriteFile(filepath.Join(k.Repo, "objects", bad[:2], bad[2:]+".commit"), []byte("spoilt"), 0o644))
	err := k.Do(t.Context(), wish(0, 0, 1))
	if err == nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("error %v", err)
	}
	k.wantThere(k.commits[0])
}

// A record that is damaged is named, with what to do; nothing is removed by it.
func TestDamagedRecord(t *testing.T) {
	for _, text := range []string{"", `{"deltas":null}`, `{"deltas":{"abc":{}}}`, `{"deltas":{"` + strings.Repeat("a", 64) + `":null}}`} {
		k := newKeeper(t, 1)
		must.OK(t, os.WriteFile(filepath.Join(k.State, recordName), []byte(text), 0o600))
		if err := k.Do(t.Context(), wish(0, 0)); err == nil || !strings.Contains(err.Error(), "deltas.json") {
			t.Errorf("%q: error %v", text, err)
		}
	}
}

// Names are read as they are written.
func TestNames(t *testing.T) {
	a, b := ostree.Checksum{1}, ostree.Checksum{2}
	for _, d := range []Delta{{To: b}, {a, b}} {
		if got, err := Parse(d.String()); got != d || err != nil {
			t.Errorf("%s became %s, %v", d, got, err)
		}
	}
	for _, name := range []string{"", "-", "a-b", a.String() + "-", "-" + a.String()} {
		if _, err := Parse(name); err == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
}
