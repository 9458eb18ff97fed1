// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// The system calls by which a publish changes files. Each one that it makes is a
// point at which it is killed, and most are points at which they fail.
var (
	changing = []string{
		"renameat", "renameat2", "linkat", "link", "mkdirat", "mkdir", "unlinkat", "unlink", "rename", "symlinkat",
		"fsync", "fdatasync", "syncfs", "ftruncate", "fallocate", "pwrite64", "fchmod", "fchmodat", "fchown",
		"utimensat", "futimesat", "fsetxattr", "copy_file_range", "write", "openat",
	}
	// Those of which a failure is no fault of a disk: they also reach files that
	// no disk holds.
	onlyKilled = map[string]bool{"write": true, "openat": true}
)

// A prepared site has a session of which all is staged and nothing published.
type prepared struct {
	*site.Twin
	dir     string // of the site, to be copied
	token   string
	session string
}

// prepare stages a small push and stops the server.
func prepare(t *testing.T) *prepared {
	t.Helper()
	p := &prepared{Twin: site.NewTwin(t, 4)}
	s := site.New(t)
	p.dir, p.token = s.Dir, s.Token
	p.Next()
	unlock := site.LockRepository(t, s.Prod)
	wait := site.Background(t, s.Command("push", "--json", "--repo", p.Repo, "--retry-for", "0s"))
	if !site.UntilState(t.Context(), s.API(), wire.Verifying) {
		t.Fatal("it does not verify")
	}
	s.Server.Kill()
	wait()
	unlock()
	s.Start()
	p.session = s.OpenSession().ID
	must.OK(t, s.Server.Stop())
	return p
}

// at finalizes a copy of the prepared site with a fault at a point. All must be
// sound then, and published after a restart. It reports whether a thread came to
// that point.
func (p *prepared) at(pt site.Injection) (hit bool) {
	p.T.Helper()
	dir, err := os.MkdirTemp(p.T.TempDir(), "site")
	must.OK(p.T, err)
	defer os.RemoveAll(dir)
	must.Run(p.T, "cp", "-a", p.dir+"/.", dir)
	s := site.At(p.T, dir)
	s.Token = p.token
	s.Start()
	defer func() { s.Server.Kill() }()
	tracer := site.Attach(p.T, s.Server.Process.Pid, pt)
	outcome := p.finalize(s)
	_ = s.Server.Process.Signal(syscall.SIGTERM) // fails where it has ended
	select {
	case <-s.Server.Ended:
	case <-time.After(must.Patience):
		p.T.Fatalf("%s: the server does not stop:\n%s", pt, &s.Server.Log)
	}
	hit = tracer.Wait()
	when := fmt.Sprintf("%s, hit %v, %s", pt, hit, outcome)
	p.Sound(s, when)
	s.Start()
	if e := s.Run("push", "--json", "--repo", p.Repo, "--resume", p.session); e.Exit != 0 {
		p.T.Fatalf("%s: then exit code %d: %s", when, e.Exit, e.Stderr)
	}
	p.Arrived(s)
	must.OK(p.T, s.Server.Stop())
	if notes := p.Sound(s, when+", published"); site.LeftBehind(notes) {
		p.T.Errorf("%s: left behind: %s", when, notes)
	}
	return hit
}

// finalize finalizes the session and waits for its outcome, or for the end of
// the server.
func (p *prepared) finalize(s *site.Site) (outcome string) {
	p.T.Helper()
	ctx, cancel := context.WithTimeout(p.T.Context(), must.Patience)
	defer cancel()
	api := s.API()
	at, err := api.Finalize(ctx, p.session)
	for err == nil && (at.State == wire.Verifying || at.State == wire.Publishing) {
		at, err = api.Session(ctx, p.session, 10*time.Second)
	}
	switch {
	case ctx.Err() != nil:
		p.T.Fatalf("it has no outcome:\n%s", &s.Server.Log)
	case err != nil:
		return err.Error()
	case at.State != wire.Open && at.State != wire.Published:
		p.T.Errorf("the session is %s: %s", at.State, at.Detail)
	}
	return at.State + " " + at.Error + " " + at.Detail
}

// The publish of a small push is killed at its file-changing system calls, and
// these fail with EIO or ENOSPC: a handful of them, or each one at full length.
func TestFaultAtSystemCalls(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	p := prepare(t)
	if !site.Full() {
		for _, pt := range []site.Injection{
			{Call: "fdatasync", Fault: "signal=KILL", N: 2}, {Call: "renameat", Fault: "signal=KILL", N: 3}, {Call: "syncfs", Fault: "error=EIO", N: 1},
			{Call: "linkat", Fault: "error=ENOSPC", N: 1}, {Call: "pwrite64", Fault: "error=ENOSPC", N: 1},
		} {
			p.at(pt)
		}
		return
	}
	points := map[string]int{}
	for _, call := range changing {
		for _, fault := range []string{"signal=KILL", "error=EIO", "error=ENOSPC"} {
			if onlyKilled[call] && fault != "signal=KILL" {
				continue
			}
			for n := 1; p.at(site.Injection{Call: call, Fault: fault, N: n}); n++ {
				points[call]++
				if onlyKilled[call] {
					n += n / 3 // most of them change nothing
				}
			}
			t.Logf("%s: %d points so far, the last with %s", call, points[call], fault)
		}
	}
	sum := 0
	for _, n := range points {
		sum += n
	}
	t.Logf("%d points: %v", sum, points)
	if sum == 0 {
		t.Error("no thread came to any point")
	}
}
