// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"
)

// A session remembers the states that it was in: the first, and the last of many.
func TestSteps(t *testing.T) {
	j := newJournal(t)
	s := createFor(t, j, "ci", refsTo(1, "x"))
	for range 2 * maxSteps {
		move(t, j, s.ID, Verifying, Open)
	}
	move(t, j, s.ID, Aborted)
	steps := session(t, j, s.ID).Steps
	if len(steps) != maxSteps {
		t.Fatalf("%d steps are kept: %v", len(steps), steps)
	}
	first, last := steps[0], steps[len(steps)-1]
	if first.State != wire.Open || last.State != wire.Aborted || steps[len(steps)-2].State != wire.Open || steps[1].State != wire.Verifying {
		t.Errorf("the steps are %v", steps)
	}
	for i, step := range steps[1:] {
		if step.At.IsZero() || step.At.Before(steps[i].At) {
			t.Errorf("step %d was at %v, the one before at %v", i+1, step.At, steps[i].At)
		}
	}
}
