// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"testing"
	"time"
)

// A bucket gives its lines, then one each quotaEvery, and tells with that one how
// many it held back.
func TestQuota(t *testing.T) {
	start := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	q := &quota{left: quotaLines, full: start}
	given := 0
	for range 1000 {
		if _, ok := q.take(start.Add(quotaEvery / 2)); ok {
			given++
		}
	}
	if given != quotaLines {
		t.Errorf("%d lines at once, want %d", given, quotaLines)
	}
	if held, ok := q.take(start.Add(quotaEvery)); !ok || held != 1000-quotaLines {
		t.Errorf("%v, %d held back", ok, held)
	}
	if _, ok := q.take(start.Add(quotaEvery)); ok {
		t.Error("two lines for one time")
	}
}
