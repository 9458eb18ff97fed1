// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// everyDeltaMishap goes through the points at which the server makes static deltas and
// removes those before.
func everyDeltaMishap(t *testing.T, effects []string, some int) {
	t.Parallel()
	c := site.NewDeltas(t)
	site.EveryMishap(t, c.RecordDeltas(), effects, some, func(t *testing.T, f *site.Mishap) { c.Play(t, f).Run() })
}

// The server is killed, or a call fails, while it makes and removes static deltas: in
// the end there are those that are asked for, and no others.
func TestDeltaPoints(t *testing.T) {
	everyDeltaMishap(t, slices.Concat(site.Kills, site.Errnos), 4)
}

// The same with power cuts.
func TestDeltaPowerCutPoints(t *testing.T) {
	site.NewDisk(t, 64<<20) // skips where there can be none
	everyDeltaMishap(t, site.PowerCuts, 2)
}

// Static deltas that fill the disk, or what is to stay free of it, are given up with a
// word about why, and nothing is left of them. The push stands, and they are made when
// there is room again.
func TestDeltasFillDisk(t *testing.T) {
	t.Parallel()
	for minFree, c := range map[string]struct {
		room int64 // beside the payload, before the push
		why  string
	}{"0": {2 << 20, "No space left on device"}, "4MiB": {7 << 20, "limits.min-free-space"}} {
		t.Run("min-free-space "+minFree, func(t *testing.T) {
			d := site.NewDisk(t, 64<<20)
			s, w := d.Site(minFree), site.NewTwin(t, 150)
			s.Configure("after: [{deltas: {from: [empty]}}]")
			w.Next()
			s.Link()
			d.Fill(w.Payload + c.room)
			s.Push(&w.Build, "--jobs=1", "--limit-rate=2MB") // little of it is there twice, as uploads and staged
			var failed wire.After
			must.Wait(t, "the work has failed", func() bool {
				after := s.Sessions(wire.Published)[0].After
				if len(after) == 0 || after[0].State != wire.WorkFailed {
					return false
				}
				failed = after[0]
				return true
			})
			if failed.Work != "deltas" || !strings.Contains(failed.Error, c.why) {
				t.Errorf("%s failed: %s; want it to say %s", failed.Work, failed.Error, c.why)
			}
			left, err := filepath.Glob(filepath.Join(s.Prod, "tmp", "ostree-upload-*"))
			must.OK(t, err)
			if len(left) > 0 {
				t.Errorf("left in tmp: %v", left)
			}
			w.Arrived(s)
			w.Whole(s, "full")
			d.Free()
			must.OK(t, s.Server.Process.Signal(unix.SIGHUP))
			must.Wait(t, "the work is done", func() bool { return s.Sessions(wire.Published)[0].After[0].State == wire.WorkDone })
			if list := strings.Fields(must.OSTree(t, "static-delta", "list", "--repo="+s.Prod)); len(list) != 2 {
				t.Errorf("deltas: %v", list)
			}
			must.OK(t, s.Server.Stop())
			if notes := w.Sound(s, "done"); site.LeftBehind(notes) {
				t.Errorf("left behind: %s", notes)
			}
		})
	}
}
