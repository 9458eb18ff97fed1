// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// NewRepair makes a site of which the repository, of a mode, has published the commits
// and was damaged since: of each kind of object one is gone and one damaged.
func NewRepair(t *testing.T, mode string) *Scenario {
	t.Helper()
	c := NewScenario(t)
	s := c.Site(t)
	must.OSTree(t, "init", "--repo="+s.Prod, "--mode="+mode)
	must.OSTree(t, "summary", "--update", "--repo="+s.Prod)
	s.Start()
	s.Push(&c.Build)
	must.OK(t, s.Server.Stop())
	s.EmptyStaging()
	c.Args = []string{"--repo", "prod"}
	c.damaged = damageSome(t, s.Prod)
	return c
}

// damageSome damages a repository, and names the objects.
func damageSome(t *testing.T, repo string) map[string]bool {
	t.Helper()
	damaged := make(map[string]bool)
	for _, kind := range []string{"file*", "dirtree", "commit"} {
		files, err := filepath.Glob(filepath.Join(repo, "objects", "*", "*."+kind))
		must.OK(t, err)
		slices.Sort(files)
		info, err := os.Stat(files[0])
		must.OK(t, err)
		must.OK(t, os.Truncate(files[0], info.Size()/2))
		must.OK(t, os.Remove(files[1]))
		for _, f := range files[:2] {
			damaged[filepath.Base(filepath.Dir(f))+filepath.Base(f)[:62]] = true
		}
	}
	return damaged
}

// named finds the object that a finding is about.
var named = regexp.MustCompile(`object ([0-9a-f]{64})\.`)

// noWorse checks that no object is damaged or missing that was not before.
func (p *Play) noWorse() {
	p.T.Helper()
	for line := range strings.Lines(p.Site.Run("check", "--content", "--repo", "prod").Stdout) {
		if !strings.HasPrefix(line, "finding: ") {
			continue
		}
		if m := named.FindStringSubmatch(line); m == nil || !p.scenario.damaged[m[1]] {
			p.T.Errorf("%s: %s", p.Mishap, line)
		}
	}
}
