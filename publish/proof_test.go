// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sync/semaphore"
)

// One session of a token is verified at a time, and those of other tokens do not wait
// for it.
func TestOneRepairOfAToken(t *testing.T) {
	r := newRepairs()
	leave, err := r.enter(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.enter(over, "one"); !errors.Is(err, context.Canceled) {
		t.Errorf("a second session of the token: %v", err)
	}
	other, err := r.enter(t.Context(), "two")
	if err != nil {
		t.Fatal(err)
	}
	other()
	leave()
	if leave, err = r.enter(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	leave()
}

// A long object gives way to whoever waits, and gets its turn again after that.
func TestRepairsTakeTurns(t *testing.T) {
	turns := semaphore.NewWeighted(1)
	long := &turn{ctx: t.Context(), turns: turns}
	if err := long.take(); err != nil {
		t.Fatal(err)
	}
	went := make(chan struct{})
	go func() {
		defer close(went)
		short := &turn{ctx: t.Context(), turns: turns}
		if err := short.take(); err == nil {
			short.leave()
		}
	}()
	for done := false; !done; {
		select {
		case <-went:
			done = true
		default:
			if err := long.step(); err != nil {
				t.Fatal(err)
			}
		}
	}
	long.leave()
	if !turns.TryAcquire(1) {
		t.Error("a turn was not given back")
	}
}
