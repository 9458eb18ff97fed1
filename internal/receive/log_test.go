// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"testing"
	"time"
)

// A bucket gives its lines, then one each refusedEvery, and tells with that one how
// many it held back.
func TestQuota(t *testing.T) {
	start := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	q := &quota{left: refusedLines, full: start}
	given := 0
	for range 1000 {
		if _, ok := q.take(start.Add(refusedEvery/2), refusedLines, refusedEvery); ok {
			given++
		}
	}
	if given != refusedLines {
		t.Errorf("%d lines at once, want %d", given, refusedLines)
	}
	if held, ok := q.take(start.Add(refusedEvery), refusedLines, refusedEvery); !ok || held != 1000-refusedLines {
		t.Errorf("%v, %d held back", ok, held)
	}
	if _, ok := q.take(start.Add(refusedEvery), refusedLines, refusedEvery); ok {
		t.Error("two lines for one time")
	}
}
