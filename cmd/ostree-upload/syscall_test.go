// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/wire"
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
	*twin
	dir     string // of the site, to be copied
	token   string
	session string
}

// prepare stages a small push and stops the server.
func prepare(t *testing.T) *prepared {
	t.Helper()
	p := &prepared{twin: newTwin(t, 4)}
	s := newSite(t)
	p.dir, p.token = s.dir, s.token
	p.next()
	unlock := lockRepository(t, s.prod)
	wait := background(t, s.command("push", "--json", "--repo", p.repo, "--retry-for", "0s"))
	if !untilState(t.Context(), s.api(), wire.Verifying) {
		t.Fatal("it does not verify")
	}
	s.server.kill()
	wait()
	unlock()
	s.start()
	p.session = s.openSession().ID
	check(t, s.server.stop())
	return p
}

// lockRepository takes libostree's exclusive lock, which each publish waits for.
func lockRepository(t *testing.T, repo string) (unlock func()) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(repo, ".lock"), os.O_RDWR|os.O_CREATE, 0o660)
	check(t, err)
	check(t, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK}))
	return func() { check(t, f.Close()) }
}

// A point is one call of one thread at which something happens to it.
type point struct {
	call  string
	fault string // as strace names it
	n     int    // the call's number in its thread; 0 for all of its calls
}

func (p point) String() string { return fmt.Sprintf("%s %d %s", p.call, p.n, p.fault) }

// injection is the point in strace's words.
func (p point) injection() string {
	if p.n == 0 {
		return fmt.Sprintf("inject=%s:%s", p.call, p.fault)
	}
	return fmt.Sprintf("inject=%s:%s:when=%d", p.call, p.fault, p.n)
}

// at finalizes a copy of the prepared site with a fault at a point. All must be
// sound then, and published after a restart. It reports whether a thread came to
// that point.
func (p *prepared) at(pt point) (hit bool) {
	p.t.Helper()
	dir, err := os.MkdirTemp(p.t.TempDir(), "site")
	check(p.t, err)
	defer os.RemoveAll(dir)
	if out, err := exec.Command("cp", "-a", p.dir+"/.", dir).CombinedOutput(); err != nil {
		p.t.Fatalf("cp: %v\n%s", err, out)
	}
	s := &site{t: p.t, dir: dir, prod: filepath.Join(dir, "prod"), token: p.token}
	s.start()
	defer func() { s.server.kill() }()
	tracer := attach(p.t, s.server.process.Pid, pt)
	outcome := p.finalize(s)
	_ = s.server.process.Signal(syscall.SIGTERM) // fails where it has ended
	select {
	case <-s.server.ended:
	case <-time.After(patience):
		p.t.Fatalf("%s: the server does not stop:\n%s", pt, &s.server.log)
	}
	hit = tracer.wait()
	when := fmt.Sprintf("%s, hit %v, %s", pt, hit, outcome)
	p.sound(s, when)
	s.start()
	if e := s.run("push", "--json", "--repo", p.repo, "--resume", p.session); e.exit != 0 {
		p.t.Fatalf("%s: then exit code %d: %s", when, e.exit, e.stderr)
	}
	p.arrived(s)
	check(p.t, s.server.stop())
	if notes := p.sound(s, when+", published"); leftBehind(notes) {
		p.t.Errorf("%s: left behind: %s", when, notes)
	}
	return hit
}

// finalize finalizes the session and waits for its outcome, or for the end of
// the server.
func (p *prepared) finalize(s *site) (outcome string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	api := s.api()
	at, err := api.Finalize(ctx, p.session)
	for err == nil && (at.State == wire.Verifying || at.State == wire.Publishing) {
		at, err = api.Session(ctx, p.session, 10*time.Second)
	}
	switch {
	case ctx.Err() != nil:
		p.t.Fatalf("it has no outcome:\n%s", &s.server.log)
	case err != nil:
		return err.Error()
	case at.State != wire.Open && at.State != wire.Published:
		p.t.Errorf("the session is %s: %s", at.State, at.Detail)
	}
	return at.State + " " + at.Error + " " + at.Detail
}

// A tracer is an strace of a server.
type tracer struct {
	cmd   *exec.Cmd
	trace string // its file
}

// attach has a fault happen in a process at a point.
func attach(t *testing.T, pid int, pt point) *tracer {
	t.Helper()
	tr := &tracer{trace: filepath.Join(t.TempDir(), "trace")}
	tr.cmd = exec.Command("strace", "-f", "-o", tr.trace, "-e", "trace="+pt.call,
		"-e", pt.injection(), "-p", fmt.Sprint(pid))
	stderr, err := tr.cmd.StderrPipe()
	check(t, err)
	check(t, tr.cmd.Start())
	attached := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			select {
			case attached <- lines.Text():
			default: // of later threads
			}
		}
	}()
	select {
	case line := <-attached:
		if !strings.Contains(line, " attached") {
			_ = tr.cmd.Wait()
			t.Skipf("strace cannot attach: %s", line)
		}
	case <-time.After(patience):
		t.Fatal("strace does not attach")
	}
	return tr
}

// wait waits for its end, which is that of the server, and reports whether the
// fault happened.
func (tr *tracer) wait() bool {
	_ = tr.cmd.Wait() // how strace ends is how the server ended
	trace, _ := os.ReadFile(tr.trace)
	return bytes.Contains(trace, []byte("(INJECTED)")) || bytes.Contains(trace, []byte("killed by SIGKILL"))
}

// The publish of a small push is killed at its file-changing system calls, and
// these fail with EIO or ENOSPC: a handful of them, or each one at full length.
func TestFaultAtSystemCalls(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	p := prepare(t)
	if !full() {
		for _, pt := range []point{
			{"fdatasync", "signal=KILL", 2}, {"renameat", "signal=KILL", 3}, {"syncfs", "error=EIO", 1},
			{"linkat", "error=ENOSPC", 1}, {"pwrite64", "error=ENOSPC", 1},
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
			for n := 1; p.at(point{call, fault, n}); n++ {
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
