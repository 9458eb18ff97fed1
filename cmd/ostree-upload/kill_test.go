// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"bytes"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
)

// cutJobs is how many uploads a kill cuts at most.
const cutJobs = 2

// chatter is what HTTP and negotiation take of the link beside uploads.
const chatter = 1 << 20

// SIGKILL of the client: what was complete before is not sent again.
func TestKillClient(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), big(t)
	l := s.link()
	if out, err := runKilled(s.command("push", "--repo", b.repo, "--jobs", "2"), l, b.payload*3/4); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.noRefs()
	killed := s.openSession()
	r := s.push(b, "--resume", killed.ID, "--jobs", "2")
	published(t, b, s.prod)
	if !r.Resumed || r.Session.ID != killed.ID {
		t.Errorf("session %s, resumed %v; want %s", r.Session.ID, r.Resumed, killed.ID)
	}
	frames := int64(b.objects) * 64
	if sum := killed.Bytes.Staged + r.BytesSent; sum > b.payload+frames {
		t.Errorf("%d bytes were staged, and then %d of %d sent", killed.Bytes.Staged, r.BytesSent, b.payload)
	}
	sentOnce(t, l, b)
}

// sentOnce checks that nothing was sent twice but what the kill cut: of each
// upload less than an object that fits into a pack, and what was in the air.
func sentOnce(t *testing.T, l *link.Proxy, b *build) {
	t.Helper()
	const cut = cutJobs * wire.MaxPackPayload
	extra := l.Delivered() - b.payload
	t.Logf("%d bytes delivered for %d: %.1f%% more", l.Delivered(), b.payload, 100*float64(extra)/float64(b.payload))
	if extra > cut+chatter {
		t.Errorf("%d bytes delivered for %d: more than what was cut", l.Delivered(), b.payload)
	}
}

// SIGKILL of the server: a client that gives up at once leaves a session, which
// goes on with the next server.
func TestKillServer(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), big(t)
	l := s.link()
	l.At(b.payload*2/3, s.server.kill)
	gone := s.run("push", "--json", "--repo", b.repo, "--jobs", "2", "--retry-for", "0s").must(t, push.ExitForNow)
	id := gone.result(t).Session.ID
	if !strings.Contains(gone.stderr, "hint: go on with: ostree-upload push") || !strings.Contains(gone.stderr, "--resume "+id) {
		t.Errorf("it does not say how to go on: %s", gone.stderr)
	}
	s.noRefs()
	s.restart(l)
	r := s.push(b, "--resume", id, "--jobs", "2")
	published(t, b, s.prod)
	if r.ObjectsSent == int64(b.objects) {
		t.Errorf("sent all %d objects again", b.objects)
	}
	sentOnce(t, l, b)
}

// SIGKILL of the server: a client that is left running finishes by itself when
// there is one again.
func TestKillServerUnderClient(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), big(t)
	l := s.link()
	l.At(b.payload/2, s.server.kill)
	wait := background(t, s.command("push", "--json", "--repo", b.repo, "--jobs", "2"))
	<-s.server.ended
	s.restart(l)
	r := wait().must(t, 0).result(t)
	published(t, b, s.prod)
	if r.Retries == 0 {
		t.Error("it did not notice")
	}
	sentOnce(t, l, b)
}

// SIGTERM of the server while uploads are under way: it ends with 0, not after
// its grace period, and the session goes on with the next server.
func TestStop(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), big(t)
	l := s.link()
	l.At(b.payload/2, func() { s.server.process.Signal(syscall.SIGTERM) })
	wait := background(t, s.command("push", "--json", "--repo", b.repo, "--jobs", "2", "--retry-for", "0s"))
	if err := s.server.wait(); err != nil {
		t.Fatal(err)
	}
	id := wait().must(t, push.ExitForNow).result(t).Session.ID
	s.noRefs()
	s.restart(l)
	s.push(b, "--resume", id, "--jobs", "2")
	published(t, b, s.prod)
	sentOnce(t, l, b)
}

// background starts a command; what it returns waits for its end.
func background(t *testing.T, cmd *exec.Cmd) (wait func() ending) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() }) // fails where it has ended
	return func() ending {
		cmd.Wait() // the exit code says it all
		if races := dataRaces(stderr.String()); races != "" {
			t.Errorf("the client:\n%s", races)
		}
		return ending{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	}
}
