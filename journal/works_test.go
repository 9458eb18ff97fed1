// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// What is to follow a publish is recorded with it, once for several publishes,
// survives the process, and stays due until it was done as it was last asked for.
func TestWorks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, path)
	publish := func() {
		t.Helper()
		id := create(t, j)
		for _, to := range []State{Verifying, Publishing} {
			_, err := j.Move(id, to, nil)
			must.OK(t, err)
		}
		_, err := j.Move(id, Published, nil, "summary")
		must.OK(t, err)
	}
	works := func(want int) []Work {
		t.Helper()
		list, err := j.Works()
		must.OK(t, err)
		if len(list) != want {
			t.Fatalf("works %+v, want %d", list, want)
		}
		return list
	}
	works(0)
	publish()
	first := works(1)[0]
	if first.Kind != "summary" || first.Asked != 1 || first.Since.IsZero() {
		t.Errorf("first %+v", first)
	}
	must.OK(t, j.WorkFailed(first, errors.New("disk full")))
	publish()
	mustClose(t, j)
	j = open(t, path)
	second := works(1)[0]
	if second.Asked != 2 || second.Tries != 1 || second.Error != "disk full" || !second.Since.Equal(first.Since) {
		t.Errorf("second %+v", second)
	}
	must.OK(t, j.WorkDone(first)) // a publish has asked since
	works(1)
	must.OK(t, j.WorkDone(second))
	must.OK(t, j.WorkDone(second))
	must.OK(t, j.WorkFailed(second, errors.New("late")))
	works(0)
}

// A move that is refused asks for nothing.
func TestWorksOfRefusedMove(t *testing.T) {
	j := open(t, filepath.Join(t.TempDir(), "journal.db"))
	if _, err := j.Move(create(t, j), Published, nil, "summary"); err == nil {
		t.Error("an open session was published")
	}
	if list, err := j.Works(); err != nil || len(list) > 0 {
		t.Errorf("works %v, %v", list, err)
	}
}
