// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// Refs are set to a commit that is there, and then some are deleted. At each point of the server it is killed, or a call
// fails: the next start has all refs of a session where they are to be, or none, and the
// same command again does the rest.
func TestSetRefsPoints(t *testing.T) {
	t.Parallel()
	c := newSetting(t, 12)
	record := &site.Mishap{Record: filepath.Join(t.TempDir(), "points")}
	c.play(t, record)
	site.EveryMishap(t, record.Points(t), slices.Concat(site.Kills, site.Errnos), 5, c.play)
	t.Run("power cuts", func(t *testing.T) {
		site.NewDisk(t, 64<<20) // skips where there can be none
		site.EveryMishap(t, record.Points(t), site.PowerCuts, 2, c.play)
	})
}

// The same with a thousand refs, where the server is killed among their moves.
func TestThousandRefs(t *testing.T) {
	t.Parallel()
	c := newSetting(t, 1000)
	site.EveryMishap(t, []string{"move a ref#1", "move a ref#500", "move a ref#1000"}, site.Kills, 2, c.play)
}

// A setting is a site whose refs are to be set and deleted.
type setting struct {
	*site.Scenario
	refs   int
	token  string // of scopes promote and delete
	commit string // in the repository, and bound to no ref
}

func newSetting(t *testing.T, refs int) *setting {
	t.Helper()
	c := &setting{Scenario: site.NewUpdate(t), refs: refs}
	made := c.Site(t).Run("gentoken", "--name", "release", "--scope", "promote", "--scope", "delete").Must(t, 0)
	c.token = strings.TrimSpace(made.Stdout)
	c.commit = must.OSTree(t, "commit", "--repo="+c.Site(t).Prod, "--branch=free", "--no-bindings", "--tree=dir="+c.Tree)
	return c
}

// play sets the refs, and deletes them.
func (c *setting) play(t *testing.T, f *site.Mishap) {
	p := c.Play(t, f)
	p.Token = c.token
	p.StartFaulty()
	var set, deleted []string
	for i := range c.refs {
		ref := fmt.Sprintf("many/r%d", i)
		set = append(set, ref+" "+c.commit)
		if i > 0 {
			deleted = append(deleted, ref)
		}
	}
	file := filepath.Join(t.TempDir(), "refs")
	must.OK(t, os.WriteFile(file, []byte(strings.Join(set, "\n")), 0o600))
	c.persist(p, []int{0, c.refs}, "refs", "set", "--from-file", file)
	if f.Effect == "" {
		if summary := must.OSTree(t, "summary", "--view", "--repo="+p.Prod); strings.Count(summary, "many/r") != c.refs {
			t.Errorf("the summary has %d of them", strings.Count(summary, "many/r"))
		}
	}
	c.persist(p, []int{c.refs, 1}, append([]string{"refs", "delete"}, deleted...)...)
	p.Stop()
	p.Start()
	must.OK(t, p.Server.Stop())
	p.Twin.Sound(p.Site, f.String())
	if left := c.count(p); left != 1 {
		t.Errorf("%s: %d refs are left", f, left)
	}
}

// persist gives a command until it works, as a person would, with another server where
// the mishap has ended the one before: which has as many refs as it had, or is to have.
func (c *setting) persist(p *site.Play, may []int, command ...string) {
	p.T.Helper()
	var e site.Ending
	for failed := 0; failed < 4; failed++ {
		e = p.Site.Run(append(command, "--retry-for", "1s")...)
		if e.Exit == 0 {
			return
		}
		if _, gone := p.API().Info(p.T.Context()); gone == nil {
			continue
		}
		if p.Server.Wait() == nil || !p.Mishap.Hit(p.T) {
			p.T.Fatalf("%s: the server has ended by itself:\n%s", p.Mishap, &p.Server.Log)
		}
		p.Ended()
		p.Start()
		for _, s := range p.Sessions(wire.Publishing) {
			_, err := p.API().Session(p.T.Context(), s.ID, must.Patience) // until it is published
			must.OK(p.T, err)
		}
		if n := c.count(p); !slices.Contains(may, n) {
			p.T.Fatalf("%s: %d refs are there, neither of %v", p.Mishap, n, may)
		} else if n == may[1] {
			return
		}
	}
	p.T.Fatalf("%s: %s fails: %s", p.Mishap, strings.Join(command[:2], " "), e.Stderr)
}

// count counts the refs that were set and not deleted.
func (c *setting) count(p *site.Play) int {
	p.T.Helper()
	return len(strings.Fields(must.OSTree(p.T, "refs", "--repo="+p.Prod, "--list", "many")))
}
