// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
)

// published takes a new session to its publish, which asks for works.
func published(t *testing.T, j *Journal, follow ...Ask) (id string) {
	t.Helper()
	id = create(t, j)
	for _, to := range []State{Verifying, Publishing} {
		_, err := j.Move(id, to, nil)
		must.OK(t, err)
	}
	_, err := j.Move(id, Published, nil, follow...)
	must.OK(t, err)
	return id
}

func works(t *testing.T, j *Journal, names ...string) []Work {
	t.Helper()
	list, err := j.Works()
	must.OK(t, err)
	var got []string
	for _, w := range list {
		got = append(got, w.Name)
	}
	if !slices.Equal(got, names) {
		t.Fatalf("works %+v, want %q", list, names)
	}
	return list
}

// states are those of the works that a session waits for.
func states(t *testing.T, j *Journal, id string) string {
	t.Helper()
	s, err := j.Session(id)
	must.OK(t, err)
	var all []string
	for _, a := range s.After {
		all = append(all, a.Work+" "+a.State)
		if (a.State == wire.WorkDue || a.State == wire.WorkFailed) == a.Since.IsZero() {
			t.Errorf("%s is %s since %v", a.Work, a.State, a.Since)
		}
	}
	return strings.Join(all, ", ")
}

func wantStates(t *testing.T, j *Journal, id, want string) {
	t.Helper()
	if got := states(t, j, id); got != want {
		t.Errorf("session %s: %s, want %s", id, got, want)
	}
}

// What is to follow a publish is recorded with it, once for several publishes, and
// survives the process. It is done for those publishes alone that a run began after.
func TestWorks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, path)
	works(t, j)
	first := published(t, j, Ask{Work: "deltas", Refs: []string{"os/b", "os/a"}})
	wantStates(t, j, first, "deltas due")
	w := works(t, j, "deltas")[0]
	if !slices.Equal(w.Refs, []string{"os/a", "os/b"}) || w.All || !slices.Equal(w.Sessions, []string{first}) || w.Since.IsZero() {
		t.Errorf("it is %+v", w)
	}
	must.OK(t, j.WorkFailed(w, "disk full", time.Now().Add(time.Hour)))
	wantStates(t, j, first, "deltas failed")
	mustClose(t, j)
	j = open(t, path)
	w = works(t, j, "deltas")[0]
	if w.Tries != 1 || w.Error != "disk full" || w.Next.Before(time.Now()) {
		t.Errorf("after the failure it is %+v", w)
	}
	second := published(t, j, Ask{Work: "deltas", Refs: []string{"os/b"}}) // while a run is under way
	must.OK(t, j.WorkDone(w))
	must.OK(t, j.WorkDone(w))
	wantStates(t, j, first, "deltas done")
	wantStates(t, j, second, "deltas due")
	w = works(t, j, "deltas")[0]
	if !slices.Equal(w.Refs, []string{"os/b"}) || !slices.Equal(w.Sessions, []string{second}) || w.Tries != 0 || w.Error != "" {
		t.Errorf("what is left is %+v", w)
	}
	must.OK(t, j.WorkDone(w))
	works(t, j)
	wantStates(t, j, second, "deltas done")
	must.OK(t, j.WorkFailed(w, "late", time.Now()))
	works(t, j)
	must.OK(t, j.Check())
}

// A work that was done although one before it had failed is to be done again after that,
// for the same sessions and refs.
func TestWorkAgain(t *testing.T) {
	j := open(t, filepath.Join(t.TempDir(), "journal.db"))
	id := published(t, j, Ask{Work: "summary", Error: "disk full", Refs: []string{"x"}}, Ask{Work: "purge", Refs: []string{"x"}})
	wantStates(t, j, id, "summary failed, purge due")
	list := works(t, j, "purge", "summary")
	must.OK(t, j.WorkDone(list[0]))
	wantStates(t, j, id, "summary failed, purge done")
	must.OK(t, j.WorkDone(list[1], Ask{Work: "purge", Refs: []string{"x"}}))
	wantStates(t, j, id, "summary done, purge due")
	w := works(t, j, "purge")[0]
	if !slices.Equal(w.Refs, []string{"x"}) || !slices.Equal(w.Sessions, []string{id}) {
		t.Errorf("it is %+v", w)
	}
	must.OK(t, j.WorkDropped(w))
	wantStates(t, j, id, "summary done, purge dropped")
	works(t, j)
}

// However many publishes wait, what is kept of them is bounded.
func TestManyWait(t *testing.T) {
	j := open(t, filepath.Join(t.TempDir(), "journal.db"))
	const over = 3
	for i := range mostWaiting + over {
		published(t, j, Ask{Work: "purge", Refs: []string{fmt.Sprint("r", i)}})
	}
	before := works(t, j, "purge")[0]
	if len(before.Sessions) != mostWaiting || before.More != over || len(before.Refs) != mostWaiting+over {
		t.Errorf("%d sessions, %d more, %d refs", len(before.Sessions), before.More, len(before.Refs))
	}
	var many []string
	for i := range mostWorkRefs + 1 {
		many = append(many, fmt.Sprint("many", i))
	}
	last := published(t, j, Ask{Work: "purge", Refs: many})
	now := works(t, j, "purge")[0]
	if !now.All || now.Refs != nil || now.More != over+1 {
		t.Errorf("all: %v, %d refs, %d more", now.All, len(now.Refs), now.More)
	}
	must.OK(t, j.WorkDone(before))
	wantStates(t, j, last, "purge due")
	if left := works(t, j, "purge")[0]; left.More != 1 || len(left.Sessions) != 0 || !left.All {
		t.Errorf("left is %+v", left)
	}
}

// A move that is refused, and one to the same state, ask for nothing.
func TestWorksOfRefusedMove(t *testing.T) {
	j := open(t, filepath.Join(t.TempDir(), "journal.db"))
	if _, err := j.Move(create(t, j), Published, nil, Ask{Work: "summary"}); err == nil {
		t.Error("an open session was published")
	}
	id := published(t, j)
	_, err := j.Move(id, Published, func(s *Session) { s.Detail = "new" }, Ask{Work: "summary"})
	must.OK(t, err)
	works(t, j)
}
