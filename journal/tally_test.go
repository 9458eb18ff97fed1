// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"maps"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/test/must"
)

// The counts by state follow each move, and what is forgotten; a move that is refused
// changes none, and a journal that is opened again counts the same.
func TestStatesAreCounted(t *testing.T) {
	j := newJournal(t)
	want := func(j *Journal, some map[State]int) {
		t.Helper()
		got := j.States()
		if len(got) != len(next) {
			t.Errorf("not all states have a count: %v", got)
		}
		maps.DeleteFunc(got, func(_ State, n int) bool { return n == 0 })
		if !maps.Equal(got, some) {
			t.Errorf("%v, want %v", got, some)
		}
	}
	want(j, map[State]int{})
	a, b := create(t, j), create(t, j)
	want(j, map[State]int{Open: 2})
	for _, to := range []State{Verifying, Verifying, Publishing, Published} {
		_, err := j.Move(a, to, nil)
		must.OK(t, err)
	}
	if _, err := j.Move(b, Published, nil); err == nil {
		t.Error("an open session was published")
	}
	want(j, map[State]int{Open: 1, Published: 1})
	want(open(t, copyOf(t, j.path)), map[State]int{Open: 1, Published: 1})
	n, err := j.Trim(time.Now().Add(time.Hour))
	must.OK(t, err)
	if n != 1 {
		t.Errorf("%d forgotten", n)
	}
	want(j, map[State]int{Open: 1})
}
