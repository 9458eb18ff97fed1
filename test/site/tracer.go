// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/test/must"
)

// An Injection is a fault of one call of one thread.
type Injection struct {
	Call  string
	Fault string // as strace names it
	N     int    // the call's number in its thread
}

// String names the call and the fault.
func (i Injection) String() string { return fmt.Sprintf("%s %d %s", i.Call, i.N, i.Fault) }

// option is how strace is told.
func (i Injection) option() string {
	return fmt.Sprintf("inject=%s:%s:when=%d", i.Call, i.Fault, i.N)
}

// A Tracer is an strace that injects a fault into a server.
type Tracer struct {
	cmd   *exec.Cmd
	trace string // its file
}

// Attach has a fault happen in a process, or skips the test where that is not
// allowed.
func Attach(t *testing.T, pid int, i Injection) *Tracer {
	t.Helper()
	tr := &Tracer{trace: filepath.Join(t.TempDir(), "trace")}
	tr.cmd = exec.Command("strace", "-f", "-o", tr.trace, "-e", "trace="+i.Call,
		"-e", i.option(), "-p", fmt.Sprint(pid))
	stderr, err := tr.cmd.StderrPipe()
	must.OK(t, err)
	must.OK(t, tr.cmd.Start())
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
	case <-time.After(must.Patience):
		t.Fatal("strace does not attach")
	}
	return tr
}

// Wait waits for its end, which is that of the server, and reports whether the
// fault happened.
func (tr *Tracer) Wait() bool {
	_ = tr.cmd.Wait() // how strace ends is how the server ended
	trace, _ := os.ReadFile(tr.trace)
	return bytes.Contains(trace, []byte("(INJECTED)")) || bytes.Contains(trace, []byte("killed by SIGKILL"))
}
