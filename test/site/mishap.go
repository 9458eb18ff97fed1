// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
// spread evenly, unless at full length: then as many at a time as there are
// processors. A case that skips itself could not be run: it says so, is run again, and
// fails in the end.
func EveryMishap(t *testing.T, points, effects []string, some int, run func(*testing.T, *Mishap)) {
	t.Helper()
	all := choose(points, effects, some)
	atOnce := 1
	if Full() {
		atOnce = runtime.GOMAXPROCS(0)
	}
	var cases, hits atomic.Int64
	next := make(chan *Mishap, len(all))
	for _, f := range all {
		next <- f
	}
	close(next)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for f := range next {
				runAgain(t, f, func(t *testing.T) {
					run(t, f)
					cases.Add(1)
					if f.Hit(t) {
						hits.Add(1)
					}
				})
			}
		})
	}
	workers.Wait()
	t.Logf("%d points: %s", len(points), strings.Join(points, ", "))
	t.Logf("%d points, %d cases of %v, %d came to their point", len(points), cases.Load(), effects, hits.Load())
	// How many requests and commits there are depends on the scheduler, a little.
	if hits.Load() < cases.Load()*9/10 {
		t.Errorf("only %d of %d cases came to their point", hits.Load(), cases.Load())
	}
}

// choose returns the cases of EveryMishap.
func choose(points, effects []string, some int) (chosen []*Mishap) {
	var all []*Mishap
	for _, point := range points {
		for _, effect := range effects {
			all = append(all, &Mishap{Point: point, Effect: effect})
		}
	}
	step := 1.0
	if !Full() {
		step = max(1, float64(len(all))/float64(some))
	}
	for at := step / 2; int(at) < len(all); at += step {
		chosen = append(chosen, all[int(at)])
	}
	return chosen
}

// runAgain runs a case until it does not skip itself.
func runAgain(t *testing.T, f *Mishap, run func(*testing.T)) {
	t.Helper()
	for attempt := 1; attempt <= attempts; attempt++ {
		skipped := false // and stays so if -run leaves it out
		t.Run(f.String(), func(t *testing.T) {
			defer func() { skipped = t.Skipped() }()
			f.Record = filepath.Join(t.TempDir(), "points")
			run(t)
		})
		if !skipped {
			return
		}
		t.Logf("%s could not be run, attempt %d of %d", f, attempt, attempts)
	}
	t.Errorf("%s could not be run", f)
}
