// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
)

// CutJobs is how many uploads a kill cuts at most.
const CutJobs = 2

// Chatter is what HTTP and negotiation take of the link beside uploads.
const Chatter = 1 << 20

// SentOnce checks that nothing was sent twice but what the kill cut: of each
// upload less than an object that fits into a pack, and what was in the air.
func SentOnce(t *testing.T, l *link.Proxy, b *Build) {
	t.Helper()
	const cut = CutJobs * wire.MaxPackPayload
	extra := l.Delivered() - b.Payload
	t.Logf("%d bytes delivered for %d: %.1f%% more", l.Delivered(), b.Payload, 100*float64(extra)/float64(b.Payload))
	if extra > cut+Chatter {
		t.Errorf("%d bytes delivered for %d: more than what was cut", l.Delivered(), b.Payload)
	}
}

// Background starts a command; what it returns waits for its end.
func Background(t *testing.T, cmd *exec.Cmd) (wait func() Ending) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() }) // fails where it has ended
	return func() Ending {
		cmd.Wait() // the exit code says it all
		if races := DataRaces(stderr.String()); races != "" {
			t.Errorf("the client:\n%s", races)
		}
		return Ending{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	}
}

// RunKilled runs a client of a link and kills it when n bytes were delivered.
func RunKilled(cmd *exec.Cmd, l *link.Proxy, n int64) (string, error) {
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	started := make(chan struct{})
	l.At(n, func() {
		<-started
		cmd.Process.Kill()
	})
	if err := cmd.Start(); err != nil {
		return "", err
	}
	close(started)
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		return out.String(), fmt.Errorf("it ended before %d bytes were sent: %v", n, err)
	}
	return out.String(), nil
}

// Command is ostree-upload with the site's address and token.
func (s *Site) Command(args ...string) *exec.Cmd {
	cmd := exec.Command("ostree-upload", args...)
	cmd.Dir = s.Dir
	cmd.Env = append(s.env(), "OSTREE_UPLOAD_ADDRESS="+s.URL, "OSTREE_UPLOAD_TOKEN="+s.Token)
	return cmd
}

// An Ending is what a command left.
type Ending struct {
	Exit           int
	Stdout, Stderr string
}

// Run runs ostree-upload to its end.
func (s *Site) Run(args ...string) Ending {
	s.T.Helper()
	return Finish(s.T, s.Command(args...))
}

// Finish runs a command to its end.
func Finish(t *testing.T, cmd *exec.Cmd) Ending {
	t.Helper()
	e, err := Ran(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Ran is Finish for goroutines that must not end the test.
func Ran(cmd *exec.Cmd) (Ending, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return Ending{}, err
	}
	if races := DataRaces(stderr.String()); races != "" {
		return Ending{}, fmt.Errorf("the client:\n%s", races)
	}
	return Ending{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}, nil
}

// Must fails the test unless the exit code is this one.
func (o Ending) Must(t *testing.T, exit int) Ending {
	t.Helper()
	if o.Exit != exit {
		t.Fatalf("exit code %d, want %d\nstdout:\n%s\nstderr:\n%s", o.Exit, exit, o.Stdout, o.Stderr)
	}
	return o
}

// Result is what push --json says.
func (o Ending) Result(t *testing.T) push.Result {
	t.Helper()
	var r push.Result
	if err := json.Unmarshal([]byte(o.Stdout), &r); err != nil {
		t.Fatalf("%v\nstdout:\n%s\nstderr:\n%s", err, o.Stdout, o.Stderr)
	}
	return r
}
