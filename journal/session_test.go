// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"errors"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
)

// The moves of section "Sessions" of the design, and no others.
func TestStates(t *testing.T) {
	states := []State{Open, Verifying, Publishing, Published, Failed, Aborted, Expired}
	may := map[State]string{
		Open:       "open verifying aborted expired",
		Verifying:  "verifying open publishing failed aborted",
		Publishing: "publishing published failed open",
		Published:  "published", Failed: "failed", Aborted: "aborted", Expired: "expired",
	}
	for _, from := range states {
		allowed := strings.Fields(may[from])
		for _, to := range states {
			want := false
			for _, a := range allowed {
				want = want || a == string(to)
			}
			if from.Can(to) != want {
				t.Errorf("%s.Can(%s) is %t", from, to, !want)
			}
		}
		if final := len(allowed) == 1; from.Final() != final {
			t.Errorf("%s.Final() is %t", from, !final)
		}
	}
	if State("paused").Final() || Open.Can("paused") {
		t.Error("an unknown state is taken for a known one")
	}
}

func TestCreate(t *testing.T) {
	j := newJournal(t)
	refs := []wire.Ref{{Ref: "a/b", Old: strings.Repeat("0", 64), New: strings.Repeat("1", 64)}, {Ref: "c"}}
	before := time.Now()
	s, err := j.Create(Session{ID: "mine", State: Published, Force: true, Token: "ci", Refs: refs, Error: "x"}, time.Hour)
	must.OK(t, err)
	if !regexp.MustCompile(`^[a-z2-7]{16}$`).MatchString(s.ID) {
		t.Errorf("id is %q", s.ID)
	}
	if s.Created.Before(before) || s.Created.Location() != time.UTC || !s.Updated.Equal(s.Created) || s.Expires.Sub(s.Created) != time.Hour {
		t.Errorf("times are %v, %v, %v", s.Created, s.Updated, s.Expires)
	}
	want := Session{ID: s.ID, State: Open, Force: true, Token: "ci", Refs: refs, RefCount: 2,
		Moves: wire.OpenRequest{Refs: refs, Force: true}.Moves(), Created: s.Created, Updated: s.Updated, Expires: s.Expires,
		Steps: []wire.Step{{State: wire.Open, At: s.Created.Truncate(time.Second)}}}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("session is %+v, want %+v", s, want)
	}
	mustClose(t, j)
	if got := session(t, open(t, j.path), s.ID); !reflect.DeepEqual(got, want) {
		t.Errorf("reopened, session is %+v, want %+v", got, want)
	}
}

func TestUnknownSession(t *testing.T) {
	j := newJournal(t)
	create(t, j)
	for _, id := range []string{"", "k3xq7mpl2wbz5aen", "../../etc/passwd", "\x00", strings.Repeat("a", 1<<16)} {
		_, err := j.Session(id)
		_, moveErr := j.Move(id, Verifying, nil)
		_, statusErr := j.Statuses(id, nil)
		for _, err := range []error{
			err, moveErr, statusErr, j.Touch(id, week), j.Add(id, nil), j.Record(id, Upload{}),
			j.Withdraw(id, nil, nil), j.ForgetUpload(id, "x"), j.Release(id), j.Each(id, nil),
		} {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("session %.20q: %v", id, err)
			}
		}
		if n := len(err.Error()); n > 200 {
			t.Errorf("an error of %d bytes", n)
		}
		select {
		case <-j.Changed(id):
		default:
			t.Errorf("session %.20q: who waits for it waits for ever", id)
		}
	}
	if len(j.watchers) > 0 {
		t.Error("unknown sessions are watched")
	}
}

func TestMove(t *testing.T) {
	j := newJournal(t)
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	j.now = func() time.Time { return now }
	id := create(t, j)

	now = now.Add(time.Hour)
	s, err := j.Move(id, Verifying, nil)
	must.OK(t, err)
	if s.State != Verifying || !s.Updated.Equal(now) || s.Expires.Sub(now) != week-time.Hour {
		t.Errorf("session is %+v", s)
	}

	now = now.Add(time.Hour)
	s, err = j.Move(id, Open, func(s *Session) {
		s.Error, s.Detail = wire.MissingObjects, "2 objects are missing"
		s.ID, s.State, s.Token, s.Refs, s.Counts.Known = "x", Failed, "root", nil, 9 // not to be changed
	})
	must.OK(t, err)
	if s.State != Open || s.Error != wire.MissingObjects || s.Detail != "2 objects are missing" || s.Expires.Sub(now) != week {
		t.Errorf("session is %+v", s)
	}
	if got := session(t, j, id); !reflect.DeepEqual(got, s) || got.ID != id || got.Token != "ci" || len(got.Refs) != 1 {
		t.Errorf("journal has %+v, Move gave %+v", got, s)
	}

	// The same state again applies change only.
	now = now.Add(time.Hour)
	again, err := j.Move(id, Open, func(s *Session) { s.Expires = now })
	must.OK(t, err)
	if !again.Updated.Equal(s.Updated) || !again.Expires.Equal(now) || again.Error != s.Error {
		t.Errorf("session is %+v", again)
	}
	if got := session(t, j, id); !reflect.DeepEqual(got, again) {
		t.Errorf("journal has %+v, Move gave %+v", got, again)
	}

	_, err = j.Move(id, Published, nil)
	wantStateError(t, err, Open, Published)
	move(t, j, id, Verifying, Publishing, Published, Published)
	_, err = j.Move(id, Open, nil)
	wantStateError(t, err, Published, Open)
}

// How far the move of refs has begun is stored, and counts for one publish only.
func TestBegun(t *testing.T) {
	j := newJournal(t)
	id := create(t, j)
	move(t, j, id, Verifying, Publishing)
	_, err := j.Move(id, Publishing, func(s *Session) { s.Begun = 2 })
	must.OK(t, err)
	mustClose(t, j)
	j = open(t, j.path)
	if s := session(t, j, id); s.Begun != 2 {
		t.Errorf("after a restart it is %d", s.Begun)
	}
	move(t, j, id, Open, Verifying, Publishing)
	if s := session(t, j, id); s.Begun != 0 {
		t.Errorf("of the next publish it is %d", s.Begun)
	}
}

// Every way back or out of a state is stored, also across a restart.
func TestMoveIsStored(t *testing.T) {
	paths := [][]State{
		{Verifying, Publishing, Published}, {Verifying, Publishing, Failed}, {Verifying, Publishing, Open},
		{Verifying, Failed}, {Verifying, Aborted}, {Verifying, Open, Verifying}, {Aborted}, {Expired},
	}
	j := newJournal(t)
	var ids []string
	for _, p := range paths {
		ids = append(ids, create(t, j))
		move(t, j, ids[len(ids)-1], p...)
	}
	mustClose(t, j)
	j = open(t, j.path)
	for i, p := range paths {
		if s := session(t, j, ids[i]); s.State != p[len(p)-1] {
			t.Errorf("state after %v is %s", p, s.State)
		}
	}
}

func TestTouch(t *testing.T) {
	j := newJournal(t)
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	j.now = func() time.Time { return now }
	start, id := now, create(t, j)

	for _, step := range []struct {
		after, ttl time.Duration
		updated    time.Duration // since start, afterwards
	}{
		{30 * time.Second, week, 0}, {29 * time.Second, week, 0},
		{time.Second, week, time.Minute}, {59 * time.Second, week, time.Minute},
		{time.Second, 2 * week, 2 * time.Minute},
	} {
		now = now.Add(step.after)
		must.OK(t, j.Touch(id, step.ttl))
		s := session(t, j, id)
		if got := s.Updated.Sub(start); got != step.updated || s.Expires.Sub(s.Updated) != step.ttl {
			t.Errorf("at %v: updated at %v, expires %v later, want %+v", now.Sub(start), got, s.Expires.Sub(s.Updated), step)
		}
	}
	now = now.Add(time.Hour)
	must.OK(t, j.Add(id, objects(0, 1, Missing)))
	if s := session(t, j, id); !s.Updated.Equal(now) || s.Expires.Sub(now) != 2*week {
		t.Errorf("Add does not count as activity: %+v", s)
	}
	now = now.Add(time.Hour)
	must.OK(t, j.Record(id, upload("pack", 0, 1)))
	if s := session(t, j, id); !s.Updated.Equal(now) {
		t.Errorf("Record does not count as activity: %+v", s)
	}
	move(t, j, id, Verifying)
	wantStateError(t, j.Touch(id, week), Verifying, "")
}

func TestSessions(t *testing.T) {
	j := newJournal(t)
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	j.now = func() time.Time { return now }
	j.db.NoSync = true
	var ids []string
	for n := range 1000 {
		now = now.Add(time.Nanosecond)
		id := create(t, j)
		if ids = append(ids, id); n%2 == 0 {
			move(t, j, id, Aborted)
		}
	}
	all, err := j.Sessions(nil)
	must.OK(t, err)
	if len(all) != len(ids) {
		t.Fatalf("%d sessions", len(all))
	}
	for n, s := range all {
		if want := ids[len(ids)-1-n]; s.ID != want {
			t.Fatalf("session %d is %s, want %s", n, s.ID, want)
		}
	}
	some, err := j.Sessions(func(s *Session) bool { return s.State == Open })
	must.OK(t, err)
	if len(some) != 500 || some[0].ID != ids[999] {
		t.Errorf("%d open sessions, the newest %s", len(some), some[0].ID)
	}
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func TestChanged(t *testing.T) {
	j := newJournal(t)
	id, other := create(t, j), create(t, j)
	ch, same := j.Changed(id), j.Changed(id)
	if len(j.watchers) != 1 || ch != same {
		t.Error("waiters of one session do not share a channel")
	}
	must.OK(t, j.Add(id, objects(0, 1, Missing)))
	move(t, j, id, Open)
	move(t, j, other, Verifying)
	if _, err := j.Move(id, Published, nil); err == nil {
		t.Error("open became published")
	}
	if closed(ch) {
		t.Error("woken without a change of state")
	}
	move(t, j, id, Verifying)
	if !closed(ch) {
		t.Error("not woken by a change of state")
	}
	if ch = j.Changed(id); closed(ch) {
		t.Error("woken by a change that was before")
	}
	move(t, j, id, Failed)
	if !closed(ch) {
		t.Error("not woken by the last change")
	}
	if ch = j.Changed(id); closed(ch) || len(j.watchers) > 0 {
		t.Errorf("an ended session is watched: %d watchers", len(j.watchers))
	}
}

// Whoever calls Changed before Session never sleeps through a move.
func TestChangedMissesNothing(t *testing.T) {
	j := newJournal(t)
	j.db.NoSync = true
	for range 50 {
		id := create(t, j)
		done := make(chan State)
		go func() {
			for {
				ch := j.Changed(id)
				s, err := j.Session(id)
				if err != nil || s.State.Final() {
					done <- s.State
					return
				}
				<-ch
			}
		}()
		move(t, j, id, Verifying, Publishing, Published)
		if s := <-done; s != Published {
			t.Fatalf("the last state seen is %q", s)
		}
	}
	if len(j.watchers) > 0 {
		t.Errorf("%d sessions still watched", len(j.watchers))
	}
}
