// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// second starts another server of the site's repository at an address, and returns
// once it waits for the end of the first one.
func second(t *testing.T, s *site.Site, args ...string) *site.Receiver {
	t.Helper()
	cmd := exec.Command("ostree-upload", append([]string{"receive", "--repo", "prod"}, args...)...)
	cmd.Dir = s.Dir
	r, err := site.Launch(cmd)
	must.OK(t, err)
	t.Cleanup(r.Kill)
	must.Wait(t, "the second server waits for the first", func() bool {
		return strings.Contains(r.Log.String(), "waiting for its end")
	})
	return r
}

// A server that is started while another one of the repository is on its way out
// waits for that, and then takes over, at the same port, too: nothing has to time the
// steps of a rolling update. A push that runs meanwhile goes on.
func TestHandover(t *testing.T) {
	t.Parallel()
	for name, address := range map[string]func(*site.Site) string{
		"another port": func(*site.Site) string { return "127.0.0.1:0" },
		"the same":     func(s *site.Site) string { return s.Server.Address },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, b := site.At(t, t.TempDir()), site.Small(t, "os/x86_64/stable", name)
			s.MakeToken()
			t.Cleanup(s.End)
			s.Start("--init", "--address", site.FreeAddress(t))
			l := s.Link()
			next := second(t, s, "--address", address(s))
			first := s.Server
			l.At(b.Payload/3, func() { first.Process.Signal(syscall.SIGTERM) })
			wait := site.Background(t, s.Command("push", "--json", "--repo", b.Repo))
			must.OK(t, first.Wait())
			must.OK(t, next.Await())
			s.Server = next
			l.Target(next.Address)
			wait().Must(t, 0)
			site.Published(t, b, s.Prod)
		})
	}
}

// A server that waits can be stopped, and one that waited in vain says for what.
func TestHandoverThatDoesNotCome(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	must.OK(t, second(t, s).Stop())
	late := second(t, s, "--wait-lock", "300ms")
	<-late.Ended
	if log := late.Log.String(); !strings.Contains(log, "another ostree-upload serves prod") || strings.Contains(log, "msg=receiving") {
		t.Errorf("it says\n%s", log)
	}
}

// Root takes the lock of another user's repository before it becomes that user, and
// makes no file there meanwhile that would be root's.
func TestHandoverAsRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it becomes another user")
	}
	s := ownedSite(t, "--address", site.FreeAddress(t))
	next := second(t, s, "--address", s.Server.Address)
	must.OK(t, s.Server.Stop())
	must.OK(t, next.Await())
	s.Server = next
	if uid := ownerOf(t, s.Prod+"/.ostree-upload.lock"); uid != foreignOwner {
		t.Errorf("the lock belongs to user %d", uid)
	}
}
