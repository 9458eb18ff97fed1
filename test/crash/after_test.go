// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// A work that fills the disk ends neither the server nor what it has published. It is
// repeated, and done when there is room again.
func TestWorkFillsDisk(t *testing.T) {
	t.Parallel()
	d := site.NewDisk(t, 64<<20)
	s, w := d.Site("0"), site.NewTwin(t, 20)
	s.Configure(`after: [{command: [sh, -c, 'test -e roomy && exit; cat /dev/zero > prod/tmp/junk']}]`)
	w.Next()
	s.Link()
	s.Push(&w.Build)
	must.Wait(t, "the work has failed", func() bool {
		log := s.Server.Log.String()
		return strings.Contains(log, "what is to follow a publish failed") || strings.Contains(log, "cannot note how what follows a publish stands")
	})
	w.Arrived(s)
	must.OK(t, os.WriteFile(filepath.Join(s.Dir, "roomy"), nil, 0o644))
	must.Wait(t, "the work is done", func() bool {
		// One that began before may fill it once more.
		if err := os.Remove(filepath.Join(s.Prod, "tmp/junk")); err == nil {
			must.OK(t, s.Server.Process.Signal(unix.SIGHUP))
		}
		published := s.Sessions(wire.Published)[0]
		return len(published.After) == 1 && published.After[0].State == wire.WorkDone
	})
	must.OK(t, s.Server.Stop())
	if notes := w.Sound(s, "done"); site.LeftBehind(notes) {
		t.Errorf("left behind: %s", notes)
	}
}
