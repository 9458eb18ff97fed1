// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// Effects at a point, as internal/fault has them.
var (
	Kills     = []string{"kill-before", "kill-after"}
	Errnos    = []string{"EIO", "ENOSPC"}
	PowerCuts = []string{"cut-before", "cut-after", "tear-before", "tear-after"}
)

// A Mishap is an effect at a point of a process; without an effect, all of the
// process's points are only recorded.
type Mishap struct {
	Point  string // name#visit
	Effect string
	Record string // the file of the points that the process came to
}

// String is the name of its test.
func (f *Mishap) String() string { return f.Effect + " at " + f.Point }

// Env is what the environment of a process with this mishap has in addition;
// disk is where power cuts happen.
func (f *Mishap) Env(disk string) []string {
	return []string{"FAULT_RECORD=" + f.Record, "FAULT_AT=" + f.Point, "FAULT_DO=" + f.Effect, "FAULT_DISK=" + disk}
}

// Points are the points that the process came to, in this order.
func (f *Mishap) Points(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(f.Record)
	if !os.IsNotExist(err) {
		must.OK(t, err)
	}
	var points []string
	for line := range strings.Lines(string(b)) {
		_, point, _ := strings.Cut(strings.TrimSpace(line), " ")
		points = append(points, point)
	}
	return points
}

// Hit tells whether the process came to the mishap's point.
func (f *Mishap) Hit(t *testing.T) bool {
	t.Helper()
	return slices.Contains(f.Points(t), f.Point)
}

// attempts is how often a case is run that what it stands on keeps from running.
const attempts = 3

// EveryMishap runs a test for each point and each effect, or for some of them,
// spread evenly, unless at full length. A case that skips itself could not be run:
// it says so, is run again, and fails in the end.
func EveryMishap(t *testing.T, points, effects []string, some int, run func(*testing.T, *Mishap)) {
	t.Helper()
	var all []Mishap
	for _, point := range points {
		for _, effect := range effects {
			all = append(all, Mishap{Point: point, Effect: effect})
		}
	}
	step := 1.0
	if !Full() {
		step = max(1, float64(len(all))/float64(some))
	}
	cases, hits := 0, 0
	for at := step / 2; int(at) < len(all); at += step {
		f := all[int(at)]
		skipped := true
		for attempt := 1; skipped && attempt <= attempts; attempt++ {
			skipped = false // and stays so if -run leaves it out
			t.Run(f.String(), func(t *testing.T) {
				defer func() { skipped = t.Skipped() }()
				f.Record = filepath.Join(t.TempDir(), "points")
				run(t, &f)
				cases++
				if f.Hit(t) {
					hits++
				}
			})
			if skipped {
				t.Logf("%s could not be run, attempt %d of %d", &f, attempt, attempts)
			}
		}
		if skipped {
			t.Errorf("%s could not be run", &f)
		}
	}
	t.Logf("%d points: %s", len(points), strings.Join(points, ", "))
	t.Logf("%d points, %d cases of %v, %d came to their point", len(points), cases, effects, hits)
	// How many requests and commits there are depends on the scheduler, a little.
	if hits < cases*9/10 {
		t.Errorf("only %d of %d cases came to their point", hits, cases)
	}
}
