// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// Two builds push one ref at once: exactly one wins, and the other is told.
func TestRace(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	for round := range 3 {
		ref := fmt.Sprintf("os/race%d", round)
		rivals := []*site.Build{site.Small(t, ref, ref+" a"), site.Small(t, ref, ref+" b")}
		var waits []func() site.Ending
		for _, b := range rivals {
			waits = append(waits, site.Background(t, s.Command("push", "--json", "--repo", b.Repo)))
		}
		winner := ""
		for i, wait := range waits {
			e := wait()
			if e.Exit == 0 {
				winner += rivals[i].Commit
				continue
			}
			r := e.Must(t, push.ExitRefused).Result(t)
			if r.ErrorCode != wire.RefMoved && r.ErrorCode != wire.NotFastForward {
				t.Errorf("the loser was told %q: %s", r.ErrorCode, r.Error)
			}
		}
		if head := must.OSTree(t, "rev-parse", "--repo="+s.Prod, ref); head != winner {
			t.Errorf("%s is %s; published was %q", ref, head, winner)
		}
	}
}

// A push that another one overtakes in the middle fails for good and says so.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	first, second := site.Small(t, "os/one", "slow"), site.Small(t, "os/one", "fast")
	direct := *s
	s.Link().At(first.Payload/2, func() { direct.Push(second) }) // the slow one stands still
	e := s.Run("push", "--json", "--repo", first.Repo).Must(t, push.ExitRefused)
	r := e.Result(t)
	if r.ErrorCode != wire.RefMoved || r.Session.State != wire.Failed || !strings.Contains(e.Stderr, "hint: someone else pushed first") {
		t.Errorf("%s, session %s: %s", r.ErrorCode, r.Session.State, e.Stderr)
	}
	site.Published(t, second, s.Prod)
	again := s.Run("push", "--repo", first.Repo).Must(t, push.ExitRefused)
	if !strings.Contains(again.Stderr, "not a fast-forward") {
		t.Errorf("the next push says %s", again.Stderr)
	}
}
