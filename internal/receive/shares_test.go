// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
)

// testShares are those of a server with some cores, with a clock that stands still.
func testShares(cores int) (s *shares, clock *time.Time) {
	s, clock = newShares(cores), new(time.Time)
	s.cores = cores
	*clock = time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	s.now = func() time.Time { return *clock }
	return s, clock
}

func begin(t *testing.T, s *shares, token string) *work {
	t.Helper()
	w, err := s.begin(t.Context(), token)
	must.OK(t, err)
	return w
}

// While others are there, a token has its burst and then its part; it waits for no more
// than that, and for nothing that was done while it was alone. Whoever has no token is
// nobody to leave room for.
func TestPartOfTheWork(t *testing.T) {
	s, clock := testShares(2)
	const rest = workParts / 2 // of 2 cores
	busy := begin(t, s, "busy")
	begin(t, s, "")
	s.charge(busy.share, time.Hour)
	if owed := s.owed(busy.share); owed != 0 {
		t.Errorf("a token that is alone waits %s", owed)
	}
	other := begin(t, s, "other")
	if owed := s.owed(busy.share); owed != 0 {
		t.Errorf("waits %s for what was done when it was alone", owed)
	}
	s.charge(busy.share, time.Second)
	if owed := s.owed(busy.share); owed != rest*time.Second {
		t.Errorf("waits %s", owed)
	}
	s.charge(other.share, workBurst)
	if owed := s.owed(other.share); owed != 0 {
		t.Errorf("waits %s within its burst", owed)
	}
	*clock = clock.Add(rest * time.Second)
	if owed := s.owed(busy.share); owed != 0 {
		t.Errorf("waits %s for what is paid", owed)
	}
	s.charge(busy.share, time.Minute)
	other.end()
	*clock = clock.Add(presence / 2)
	if s.owed(busy.share) == 0 {
		t.Error("a token is gone between two requests")
	}
	*clock = clock.Add(presence)
	if owed := s.owed(busy.share); owed != 0 {
		t.Errorf("waits %s for a token that is gone", owed)
	}
	watcher := begin(t, s, "watcher")
	watcher.looks = true
	s.charge(busy.share, time.Minute)
	if s.owed(busy.share) == 0 {
		t.Error("a look is not waited for")
	}
	watcher.end()
	if owed := s.owed(busy.share); owed != 0 {
		t.Errorf("waits %s for somebody who only looked", owed)
	}
}

// A token has as many places as there are cores. Requests beyond that wait, unless those
// that have one wait for something else; whoever gives up is told why.
func TestPlaces(t *testing.T) {
	s, _ := testShares(2)
	first := begin(t, s, "a")
	begin(t, s, "a")
	begin(t, s, "b").end()
	gone, leave := context.WithCancelCause(t.Context())
	leave(errors.New("gone"))
	if _, err := s.begin(gone, "a"); err == nil || err.Error() != "gone" {
		t.Errorf("a third at a time: %v", err)
	}
	must.OK(t, first.outside(t.Context(), func() error {
		begin(t, s, "a").end()
		return nil
	}))
	first.end()
	begin(t, s, "a").end()
}

// So many requests of a token may be under way, and no more, however they wait.
func TestRequestsAtOnce(t *testing.T) {
	s, _ := testShares(1)
	var all []*work
	for range maxRequests {
		w := begin(t, s, "a")
		w.leave()
		all = append(all, w)
	}
	_, err := s.begin(t.Context(), "a")
	if p := new(wire.Problem); !errors.As(err, &p) || p.Code() != wire.Quota || p.HintIs == "" {
		t.Errorf("one more: %v", err)
	}
	begin(t, s, "b")
	all[0].end()
	begin(t, s, "a")
}

// What is held for the requests of a token is bounded. One that waits for room has no
// place, so that those that have the room come to their end.
func TestHeld(t *testing.T) {
	s, _ := testShares(1)
	first := begin(t, s, "a")
	release, err := first.hold(t.Context(), 2*maxHeld) // more than there is: all of it
	must.OK(t, err)
	first.leave()
	second := begin(t, s, "a")
	got := make(chan error)
	go func() {
		_, err := second.hold(t.Context(), 1)
		got <- err
	}()
	must.OK(t, first.resume(t.Context()))
	first.end()
	release()
	must.OK(t, <-got)
}
