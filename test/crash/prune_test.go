// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// A prune is killed before and after each of its steps, loses power there, or a step
// fails: the repository is whole, no ref has moved, its history is shorter at its end
// and nowhere else, and the next prune leaves what the first one was to leave.
func TestPrunePoints(t *testing.T) {
	t.Parallel()
	c := newPruned(t)
	recorded := &site.Mishap{Record: filepath.Join(t.TempDir(), "points")}
	c.play(t, recorded)
	site.EveryMishap(t, recorded.Points(t), slices.Concat(site.Kills, site.Errnos), 5, c.play)
	t.Run("power cuts", func(t *testing.T) {
		site.NewDisk(t, 64<<20) // skips where there can be none
		site.EveryMishap(t, recorded.Points(t), site.PowerCuts, 4, c.play)
	})
}

// A pruned is a site whose repository has more than is to be kept.
type pruned struct {
	dir     string
	commits []string // of os/pruned, the oldest first
	want    []string // the objects that a whole prune leaves
}

func newPruned(t *testing.T) *pruned {
	t.Helper()
	c := &pruned{dir: t.TempDir()}
	s := site.At(t, c.dir)
	c.commits = site.Chain(t, s.Prod, "os/pruned", 5)
	gone := site.Chain(t, s.Prod, "os/gone", 2)
	must.OSTree(t, "refs", "--repo="+s.Prod, "--delete", "os/gone")
	must.OSTree(t, "static-delta", "generate", "--repo="+s.Prod, "--empty", "--to="+gone[0])
	s.MakeToken()
	s.Configure(`keep: [{refs: ["**"], depth: 1}]`)

	whole := site.At(t, t.TempDir())
	must.Run(t, "cp", "-a", c.dir+"/.", whole.Dir)
	whole.Run("prune", "--repo", "prod").Must(t, 0)
	c.want = c.objects(whole)
	if before := c.objects(s); len(c.want) == 0 || len(c.want) >= len(before) {
		t.Fatalf("%d of %d objects are left", len(c.want), len(before))
	}
	return c
}

// objects are the files below objects and deltas.
func (c *pruned) objects(s *site.Site) (paths []string) {
	s.T.Helper()
	for _, pattern := range []string{"objects/*/*", "deltas/*/*/*"} {
		found, err := filepath.Glob(filepath.Join(s.Prod, pattern))
		must.OK(s.T, err)
		for _, path := range found {
			paths = append(paths, strings.TrimPrefix(path, s.Prod))
		}
	}
	return paths
}

// play prunes a copy with a mishap, and then once more without.
func (c *pruned) play(t *testing.T, f *site.Mishap) {
	t.Helper()
	s := site.At(t, t.TempDir())
	var d *site.Disk
	if slices.Contains(site.PowerCuts, f.Effect) {
		d = site.NewDisk(t, 64<<20)
		s = site.At(t, d.Dir)
	}
	must.Run(t, "cp", "-a", c.dir+"/.", s.Dir)
	must.Run(t, "sync", "-f", s.Dir)
	cmd := s.Command("prune", "--repo", s.Prod, "--config", s.Config())
	cmd.Path, cmd.Env = site.FaultyProgram(t), append(cmd.Env, f.Env(s.Dir)...)
	cmd.Dir = t.TempDir() // nobody is on a disk that loses power
	e := site.Finish(t, cmd)
	if f.Effect == "" {
		e.Must(t, 0)
	}
	if d != nil && f.Hit(t) {
		d.RestoreOrSkip()
	}
	c.wantHistory(t, s, f)
	s.Run("prune", "--repo", "prod").Must(t, 0)
	c.wantHistory(t, s, f)
	if got := c.objects(s); !slices.Equal(got, c.want) {
		t.Errorf("%s: the next prune leaves\n%s\nwant\n%s", f, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
	}
}

// wantHistory checks that the repository is whole and has the commits that are to be
// kept, and before them some that are not, without a gap.
func (c *pruned) wantHistory(t *testing.T, s *site.Site, f *site.Mishap) {
	t.Helper()
	if out, err := site.Fsck(s.Prod); err != nil {
		t.Fatalf("%s: ostree fsck: %v\n%s", f, err, out)
	}
	s.AtHead("os/pruned", c.commits[len(c.commits)-1])
	absent := 0
	for i, commit := range c.commits {
		_, err := os.Stat(filepath.Join(s.Prod, "objects", commit[:2], commit[2:]+".commit"))
		if err == nil {
			continue
		}
		if absent++; absent != i+1 || i >= len(c.commits)-2 {
			t.Errorf("%s: commit %d is gone", f, i)
		}
	}
}
