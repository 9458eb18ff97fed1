// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/gpg"
	"github.com/lirios/ostree-upload/test/site"
)

// A server that signs is killed before and after each step of a new summary, loses power
// there, or the step fails: in the end clients that verify the summary and the commits
// get what was pushed.
func TestSignedPoints(t *testing.T) {
	t.Parallel()
	k := gpg.New(t)
	c := site.NewUpdate(t, "sign: {gpg: "+k.Settings(0)+", commits: true}")
	points := slices.DeleteFunc(c.Record(false), func(point string) bool {
		return !strings.Contains(point, "summary") && !strings.Contains(point, "signature")
	})
	if len(points) < 3 {
		t.Fatalf("points %q", points)
	}
	play := func(t *testing.T, f *site.Mishap) {
		p := c.Play(t, f)
		p.Run()
		k.PullSigned(p.Prod, site.TwoRefs[0], 0)
		k.Verify(p.Prod, site.TwoRefs[1], 0)
	}
	site.EveryMishap(t, points, slices.Concat(site.Kills, site.Errnos), 3, play)
	t.Run("power cuts", func(t *testing.T) {
		site.NewDisk(t, 64<<20) // skips where there can be none
		site.EveryMishap(t, points, site.PowerCuts, 1, play)
	})
}
