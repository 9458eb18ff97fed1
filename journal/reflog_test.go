// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
)

// commitNo gives the same commit for the same number, and none for 0.
func commitNo(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%064x", n)
}

// moveRef has a new session of a token move a ref, and publishes it.
func moveRef(t testing.TB, j *Journal, token string, s Session) string {
	t.Helper()
	s.Token = token
	s, err := j.Create(s, week)
	must.OK(t, err)
	move(t, j, s.ID, Verifying, Publishing, Published)
	must.OK(t, j.Release(s.ID))
	return s.ID
}

func refMove(ref string, old, new int) Session {
	return Session{Refs: []wire.Ref{{Ref: ref, Old: commitNo(old), New: commitNo(new)}}}
}

// logged lists a ref's log as "session old new", all pages of it.
func logged(t *testing.T, j *Journal, ref string, limit int) (all []string) {
	t.Helper()
	for before := ""; ; {
		page, next, err := j.Log(ref, before, limit)
		must.OK(t, err)
		for _, m := range page {
			all = append(all, m.Session+" "+strings.TrimLeft(m.Old, "0")+" "+strings.TrimLeft(m.New, "0"))
		}
		if before = next; next == "" {
			return all
		}
	}
}

// A ref's log has its moves by sessions that were published, the newest first, in pages
// of any size: who moved it, when, from what to what. A session that did not move it, or
// was not published, is not in it; nor are those of refs with similar names.
func TestLog(t *testing.T) {
	j := newJournal(t)
	for _, other := range []string{"os", "os/a/b", "os/a0", "os/a-"} {
		moveRef(t, j, "ci", refMove(other, 0, 9))
	}
	first := moveRef(t, j, "ci", refMove("os/a", 0, 1))
	forced := refMove("os/a", 1, 2)
	forced.Force, forced.Promote = true, true
	second := moveRef(t, j, "release", forced)
	moveRef(t, j, "ci", refMove("os/a", 2, 2)) // new detached metadata
	createFor(t, j, "ci", refMove("os/a", 2, 3).Refs)
	back := refMove("os/a", 2, 1)
	back.Promote = true
	moveRef(t, j, "release", back)
	moveRef(t, j, "ci", refMove("os/a", 1, 2))
	third := moveRef(t, j, "ci", refMove("os/a", 2, 0))
	log, _, err := j.Log("os/a", "", 9)
	must.OK(t, err)
	for i, m := range log {
		if m.Back != (i == 2) {
			t.Errorf("move %d from the last is %+v", i, m)
		}
	}
	want := []string{third + " 2 ", log[1].Session + " 1 2", log[2].Session + " 2 1", second + " 1 2", first + "  1"}
	for limit := range 5 {
		if got := logged(t, j, "os/a", limit+1); !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %q, want %q", limit+1, got, want)
		}
	}
	page, _, err := j.Log("os/a", log[2].Session, 1)
	must.OK(t, err)
	if m := page[0]; m.Ref != "os/a" || m.Token != "release" || !m.Force || !m.Promote || time.Since(m.At) > time.Hour || !m.At.Equal(session(t, j, second).Updated) {
		t.Errorf("the second is %+v", m)
	}
	last, err := j.LastMoves([]string{"os", "os/a", "os/b"})
	must.OK(t, err)
	if len(last) != 2 || last["os/a"].Session != third || last["os/a"].New != "" || last["os"].New != commitNo(9) {
		t.Errorf("the last moves are %+v", last)
	}
	if _, _, err := j.Log("os/a", "aaaaaaaaaaaaaaaa", 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("before an unknown session: %v", err)
	}
	if got := logged(t, j, "nothing", 9); got != nil {
		t.Errorf("a ref that there never was has %q", got)
	}
}

// The log names who had a held session published, beside who pushed it.
func TestLogOfHeld(t *testing.T) {
	j := newJournal(t)
	held := refMove("os/a", 0, 1)
	held.Hold, held.Token = true, "ci"
	s, err := j.Create(held, week)
	must.OK(t, err)
	move(t, j, s.ID, Verifying, Held)
	_, err = j.Move(s.ID, Verifying, func(s *Session) { s.By = "release" })
	must.OK(t, err)
	move(t, j, s.ID, Publishing, Published)
	moveRef(t, j, "ci", refMove("os/a", 1, 2))
	log, _, err := j.Log("os/a", "", 9)
	must.OK(t, err)
	if len(log) != 2 || log[0].Token != "ci" || log[0].By != "" || log[1].Token != "ci" || log[1].By != "release" {
		t.Errorf("the log is %+v", log)
	}
}

// A ref's log lasts as long as its sessions are remembered, and what a token can put
// into it is bounded: the oldest go.
func TestLogIsBounded(t *testing.T) {
	j := newJournal(t)
	now := time.Now()
	j.now = func() time.Time { now = now.Add(time.Second); return now }
	old := moveRef(t, j, "ci", Session{Refs: refsTo(30, "x")})
	between := now
	kept := moveRef(t, j, "ci", refMove("os/x/1", 1, 2))
	must.OK(t, j.Check())
	if n, err := j.Trim(between.Add(time.Second)); n != 1 || err != nil {
		t.Fatalf("%d are forgotten, %v", n, err)
	}
	if got := logged(t, j, "os/x/1", 9); !slices.Equal(got, []string{kept + " 1 2"}) {
		t.Errorf("after session %s was forgotten: %q", old, got)
	}
	if got := logged(t, j, "os/x/2", 9); got != nil {
		t.Errorf("%q of a session that was forgotten", got)
	}
	must.OK(t, j.Check())

	defer func(most uint64) { mostMoves = most }(mostMoves)
	mostMoves = 20
	theirs := moveRef(t, j, "other", refMove("os/x/1", 2, 3))
	for range 5 {
		moveRef(t, j, "ci", Session{Refs: refsTo(8, "y")})
		must.OK(t, j.Check())
	}
	if got := logged(t, j, "os/x/1", 9); !slices.Equal(got, []string{theirs + " 2 3"}) {
		t.Errorf("the log has %q, want the other token's alone", got)
	}
	if got := logged(t, j, "os/y/7", 9); len(got) != 2 {
		t.Errorf("%d moves are kept", len(got))
	}
}

// The file of a build that kept no log opens with one: of all that it has of past
// sessions.
func TestLogOfEarlierBuild(t *testing.T) {
	j := newJournal(t)
	first := moveRef(t, j, "ci", Session{Refs: append(refsTo(30, "x"), wire.Ref{Ref: "os/a", New: commitNo(1)})})
	second := moveRef(t, j, "ci", refMove("os/a", 1, 2))
	createFor(t, j, "ci", refMove("os/a", 2, 3).Refs)
	path := j.path
	must.OK(t, j.update(func(tx *bbolt.Tx) error {
		return errors.Join(tx.DeleteBucket(reflogBucket), tx.DeleteBucket(movedBucket), tx.Bucket(metaBucket).Put(versionKey, []byte(schemaTwo)))
	}))
	must.OK(t, j.Close())
	read, err := OpenToRead(path)
	must.OK(t, err)
	must.OK(t, read.Close())
	j = open(t, path)
	if got, want := logged(t, j, "os/a", 9), []string{second + " 1 2", first + "  1"}; !slices.Equal(got, want) {
		t.Errorf("the log has %q, want %q", got, want)
	}
}

// What is wrong with the log is found.
func TestCheckLog(t *testing.T) {
	for name, spoil := range map[string]func(tx *bbolt.Tx) error{
		"is not kept": func(tx *bbolt.Tx) error {
			k, _ := tx.Bucket(reflogBucket).Cursor().First()
			return tx.Bucket(reflogBucket).Delete(k)
		},
		"and 0 of sessions": func(tx *bbolt.Tx) error { return tx.Bucket(movedBucket).DeleteBucket([]byte("ci")) },
		"a move has":        func(tx *bbolt.Tx) error { return tx.Bucket(reflogBucket).Put([]byte("ref\x00time"), nil) },
		"and 7 counted":     func(tx *bbolt.Tx) error { return tx.Bucket(movedBucket).Bucket([]byte("ci")).SetSequence(7) },
	} {
		t.Run(name, func(t *testing.T) {
			j := newJournal(t)
			moveRef(t, j, "ci", refMove("os/a", 0, 1))
			must.OK(t, j.Check())
			must.OK(t, j.update(func(tx *bbolt.Tx) error { return spoil(tx) }))
			err := j.Check()
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("check says %v", err)
			}
			must.OK(t, j.update(func(tx *bbolt.Tx) error { return fillLog(tx) })) // for the check at the end
		})
	}
}

// BenchmarkLastMoves looks up the last move of each of 20,000 refs after 20 sessions,
// of which each moved all of them.
func BenchmarkLastMoves(b *testing.B) {
	j := newJournal(b)
	const refs, sessions = 20_000, 20
	names := make([]string, refs)
	for i, r := range refsTo(refs, "x") {
		names[i] = r.Ref
	}
	slices.Sort(names)
	for range sessions {
		moveRef(b, j, "ci", Session{Refs: refsTo(refs, "x")})
	}
	for b.Loop() {
		if last, err := j.LastMoves(names); err != nil || len(last) != refs {
			b.Fatalf("%d, %v", len(last), err)
		}
	}
}
