// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// A disk that fills up ends a push for now, with words and a hint. Nothing is
// broken, the session lives, and goes on when there is room again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		minFree string
		before  func(*site.Disk)
		at      int64 // in percent of the payload: when midway happens
		midway  func(*site.Disk)
		detail  string
	}{
		"no bytes from the start": {"0", func(d *site.Disk) { d.Fill(1 << 20) }, 0, nil, "min-free-space"},
		"no bytes midway":         {"0", nil, 40, func(d *site.Disk) { d.Fill(0) }, ""},
		"no bytes near the end":   {"0", nil, 95, func(d *site.Disk) { d.Fill(0) }, ""},
		"no inodes midway":        {"0", nil, 40, (*site.Disk).UseInodes, ""},
		"min-free-space":          {"16MiB", func(d *site.Disk) { d.Fill(18 << 20) }, 0, nil, "min-free-space"},
	} {
		t.Run(name, func(t *testing.T) {
			d := site.NewDisk(t, 64<<20)
			s, w := d.Site(c.minFree), site.NewTwin(t, 500)
			w.Next()
			l := s.Link()
			if c.before != nil {
				c.before(d)
			}
			if c.midway != nil {
				l.At(w.Payload*c.at/100, func() { c.midway(d) })
			}
			for range 2 { // the second one finds it full
				e := s.Run("push", "--json", "--repo", w.Repo, "--jobs", "2").Must(t, push.ExitForNow)
				r := e.Result(t)
				if r.ErrorCode != wire.InsufficientStorage || !strings.Contains(r.Error, c.detail) || !strings.Contains(e.Stderr, "hint: go on with: ") && !strings.Contains(e.Stderr, "hint: nothing was sent; make room") {
					t.Errorf("it was told %s: %s", r.ErrorCode, e.Stderr)
				}
				t.Log(r.Error)
			}
			if left := d.Left(); c.minFree != "0" && left < 12<<20 { // a pack may be there twice, until it is ingested
				t.Errorf("only %d bytes are left of the min-free-space", left)
			}
			var resume []string // what is known to be too much opens no session
			if open := s.Sessions(wire.Open); c.midway != nil || len(open) > 0 {
				resume = []string{"--resume", s.OpenSession().ID}
			}
			must.OK(t, s.Server.Stop())
			w.Sound(s, "full")
			d.Free()
			s.Restart(l)
			if again := s.Push(&w.Build, resume...); resume != nil && again.Session.ID != resume[1] {
				t.Errorf("session %s, want %s", again.Session.ID, resume[1])
			}
			w.Arrived(s)
			must.OK(t, s.Server.Stop())
			if notes := w.Sound(s, "done"); site.LeftBehind(notes) {
				t.Errorf("left behind: %s", notes)
			}
		})
	}
}
