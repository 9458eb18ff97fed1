// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"strings"
	"syscall"
	"testing"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/test/site"
)

// SIGKILL of the client: what was complete before is not sent again.
func TestKillClient(t *testing.T) {
	t.Parallel()
	s, b := site.New(t), site.Big(t)
	l := s.Link()
	if out, err := site.RunKilled(s.Command("push", "--repo", b.Repo, "--jobs", "2"), l, b.Payload*3/4); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.NoRefs()
	killed := s.OpenSession()
	r := s.Push(b, "--resume", killed.ID, "--jobs", "2")
	site.Published(t, b, s.Prod)
	if !r.Resumed || r.Session.ID != killed.ID {
		t.Errorf("session %s, resumed %v; want %s", r.Session.ID, r.Resumed, killed.ID)
	}
	frames := int64(b.Objects) * 64
	if sum := killed.Bytes.Staged + r.BytesSent; sum > b.Payload+frames {
		t.Errorf("%d bytes were staged, and then %d of %d sent", killed.Bytes.Staged, r.BytesSent, b.Payload)
	}
	site.SentOnce(t, l, b)
}

// SIGKILL of the server: a client that gives up at once leaves a session, which
// goes on with the next server.
func TestKillServer(t *testing.T) {
	t.Parallel()
	s, b := site.New(t), site.Big(t)
	l := s.Link()
	l.At(b.Payload*2/3, s.Server.Kill)
	gone := s.Run("push", "--json", "--repo", b.Repo, "--jobs", "2", "--retry-for", "0s").Must(t, push.ExitForNow)
	id := gone.Result(t).Session.ID
	if !strings.Contains(gone.Stderr, "hint: go on with: ostree-upload push") || !strings.Contains(gone.Stderr, "--resume "+id) {
		t.Errorf("it does not say how to go on: %s", gone.Stderr)
	}
	s.NoRefs()
	s.Restart(l)
	r := s.Push(b, "--resume", id, "--jobs", "2")
	site.Published(t, b, s.Prod)
	if r.ObjectsSent == int64(b.Objects) {
		t.Errorf("sent all %d objects again", b.Objects)
	}
	site.SentOnce(t, l, b)
}

// SIGKILL of the server: a client that is left running finishes by itself when
// there is one again.
func TestKillServerUnderClient(t *testing.T) {
	t.Parallel()
	s, b := site.New(t), site.Big(t)
	l := s.Link()
	l.At(b.Payload/2, s.Server.Kill)
	wait := site.Background(t, s.Command("push", "--json", "--repo", b.Repo, "--jobs", "2"))
	<-s.Server.Ended
	s.Restart(l)
	r := wait().Must(t, 0).Result(t)
	site.Published(t, b, s.Prod)
	if r.Retries == 0 {
		t.Error("it did not notice")
	}
	site.SentOnce(t, l, b)
}

// SIGTERM of the server while uploads are under way: it ends with 0, not after
// its grace period, and the session goes on with the next server.
func TestStop(t *testing.T) {
	t.Parallel()
	s, b := site.New(t), site.Big(t)
	l := s.Link()
	l.At(b.Payload/2, func() { s.Server.Process.Signal(syscall.SIGTERM) })
	wait := site.Background(t, s.Command("push", "--json", "--repo", b.Repo, "--jobs", "2", "--retry-for", "0s"))
	if err := s.Server.Wait(); err != nil {
		t.Fatal(err)
	}
	id := wait().Must(t, push.ExitForNow).Result(t).Session.ID
	s.NoRefs()
	s.Restart(l)
	s.Push(b, "--resume", id, "--jobs", "2")
	site.Published(t, b, s.Prod)
	site.SentOnce(t, l, b)
}
