// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// faultyFolder holds what faultyOnce built, "" before.
var faultyFolder string

// faultyOnce builds the program with internal/fault's injection.
var faultyOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ostree-upload-faulty")
	if err != nil {
		return "", err
	}
	faultyFolder = dir
	program := filepath.Join(dir, "ostree-upload")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-tags", "faults", "-o", program, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return program, nil
})

func faultyProgram(t *testing.T) string {
	t.Helper()
	program, err := faultyOnce()
	check(t, err)
	return program
}

// Effects at a point, as internal/fault has them.
var (
	kills     = []string{"kill-before", "kill-after"}
	errnos    = []string{"EIO", "ENOSPC"}
	powerCuts = []string{"cut-before", "cut-after", "tear-before", "tear-after"}
)

// A mishap is an effect at a point of a process; without an effect, all of the
// process's points are only recorded.
type mishap struct {
	point  string // name#visit
	effect string
	record string // the file of the points that the process came to
}

func (f *mishap) String() string { return f.effect + " at " + f.point }

// env is what the environment of a process with this mishap has in addition;
// disk is where power cuts happen.
func (f *mishap) env(disk string) []string {
	return []string{"FAULT_RECORD=" + f.record, "FAULT_AT=" + f.point, "FAULT_DO=" + f.effect, "FAULT_DISK=" + disk}
}

// points are the points that the process came to, in this order.
func (f *mishap) points(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(f.record)
	if !os.IsNotExist(err) {
		check(t, err)
	}
	var points []string
	for line := range strings.Lines(string(b)) {
		_, point, _ := strings.Cut(strings.TrimSpace(line), " ")
		points = append(points, point)
	}
	return points
}

// hit tells whether the process came to the mishap's point.
func (f *mishap) hit(t *testing.T) bool {
	t.Helper()
	return slices.Contains(f.points(t), f.point)
}

// everyMishap runs a test for each point and each effect, or for some of them,
// spread evenly, unless at full length.
func everyMishap(t *testing.T, points, effects []string, some int, run func(*testing.T, *mishap)) {
	t.Helper()
	var all []mishap
	for _, point := range points {
		for _, effect := range effects {
			all = append(all, mishap{point: point, effect: effect})
		}
	}
	step := 1.0
	if !full() {
		step = max(1, float64(len(all))/float64(some))
	}
	cases, hits := 0, 0
	for at := step / 2; int(at) < len(all); at += step {
		f := all[int(at)]
		t.Run(f.String(), func(t *testing.T) {
			cases++
			f.record = filepath.Join(t.TempDir(), "points")
			run(t, &f)
			if f.hit(t) {
				hits++
			}
		})
	}
	t.Logf("%d points: %s", len(points), strings.Join(points, ", "))
	t.Logf("%d points, %d cases of %v, %d came to their point", len(points), cases, effects, hits)
	// How many requests and commits there are depends on the scheduler, a little.
	if hits < cases*9/10 {
		t.Errorf("only %d of %d cases came to their point", hits, cases)
	}
}

// An ordinary build knows nothing of faults.
func TestOrdinaryBuild(t *testing.T) {
	t.Parallel()
	s := &site{t: t, dir: t.TempDir()}
	f := &mishap{point: "name it#1", effect: "kill-before", record: filepath.Join(s.dir, "points")}
	cmd := s.command("gentoken")
	cmd.Env = append(cmd.Env, f.env(s.dir)...)
	finish(t, cmd).must(t, 0)
	if points := f.points(t); len(points) > 0 {
		t.Errorf("it came to %v", points)
	}
}
