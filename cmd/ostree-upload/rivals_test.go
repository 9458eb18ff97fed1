// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
)

// Two builds push one ref at once: exactly one wins, and the other is told.
func TestRace(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for round := range 3 {
		ref := fmt.Sprintf("os/race%d", round)
		rivals := []*build{small(t, ref, ref+" a"), small(t, ref, ref+" b")}
		var waits []func() ending
		for _, b := range rivals {
			waits = append(waits, background(t, s.command("push", "--json", "--repo", b.repo)))
		}
		winner := ""
		for i, wait := range waits {
			e := wait()
			if e.exit == 0 {
				winner += rivals[i].commit
				continue
			}
			r := e.must(t, push.ExitRefused).result(t)
			if r.ErrorCode != wire.RefMoved && r.ErrorCode != wire.NotFastForward {
				t.Errorf("the loser was told %q: %s", r.ErrorCode, r.Error)
			}
		}
		if head := runOSTree(t, "rev-parse", "--repo="+s.prod, ref); head != winner {
			t.Errorf("%s is %s; published was %q", ref, head, winner)
		}
	}
}

// A push that another one overtakes in the middle fails for good and says so.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first, second := small(t, "os/one", "slow"), small(t, "os/one", "fast")
	direct := *s
	s.link().At(first.payload/2, func() { direct.push(second) }) // the slow one stands still
	e := s.run("push", "--json", "--repo", first.repo).must(t, push.ExitRefused)
	r := e.result(t)
	if r.ErrorCode != wire.RefMoved || r.Session.State != wire.Failed || !strings.Contains(e.stderr, "hint: someone else pushed first") {
		t.Errorf("%s, session %s: %s", r.ErrorCode, r.Session.State, e.stderr)
	}
	published(t, second, s.prod)
	again := s.run("push", "--repo", first.repo).must(t, push.ExitRefused)
	if !strings.Contains(again.stderr, "not a fast-forward") {
		t.Errorf("the next push says %s", again.stderr)
	}
}
