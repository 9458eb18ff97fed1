// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// NewDeltas is NewUpdate with static deltas that follow: those to the commits before are
// there, and are removed when the new ones have been made.
func NewDeltas(t *testing.T) *Scenario {
	t.Helper()
	c := NewScenario(t)
	c.deltas = true
	s := c.Site(t)
	text, err := os.ReadFile(s.Config())
	must.OK(t, err)
	with := strings.Replace(string(text), "after: [", "after: [{deltas: {from: [empty], keep: 0}}, ", 1)
	must.OK(t, os.WriteFile(s.Config(), []byte(with), 0o600))
	c.pushed(t)
	return c
}

// RecordDeltas returns the server's points while it makes and removes deltas.
func (c *Scenario) RecordDeltas() []string {
	c.T.Helper()
	points := c.Record(false)
	first, last := slices.Index(points, "do the work deltas#1"), slices.Index(points, "do the work command sh#1")
	if first < 0 || last < first {
		c.T.Fatalf("no deltas were made between these points: %v", points)
	}
	return points[first:last]
}

// checkDeltas checks that there are the deltas to the last commits and no others, that
// the indexes say so, and that clients can use them.
func (p *Play) checkDeltas() {
	p.T.Helper()
	want := slices.Sorted(slices.Values(p.Twin.Heads[len(p.Twin.Heads)-1]))
	for _, list := range []string{"list", "indexes"} {
		if got := slices.Sorted(strings.FieldsSeq(must.OSTree(p.T, "static-delta", list, "--repo="+p.Prod))); !slices.Equal(got, want) {
			p.T.Errorf("%s: static-delta %s: %v, want %v", p.Mishap, list, got, want)
		}
	}
	client := filepath.Join(p.T.TempDir(), "client")
	must.OSTree(p.T, "init", "--repo="+client, "--mode=bare-user-only")
	must.OSTree(p.T, "remote", "add", "--repo="+client, "--no-gpg-verify", "prod", (&url.URL{Scheme: "file", Path: p.Prod}).String())
	must.OSTree(p.T, append([]string{"pull", "--repo=" + client, "--require-static-deltas", "prod"}, TwoRefs...)...)
	left, err := filepath.Glob(filepath.Join(p.Prod, "tmp", "ostree-upload-*"))
	must.OK(p.T, err)
	if len(left) > 0 {
		p.T.Errorf("%s: left in tmp: %v", p.Mishap, left)
	}
}
