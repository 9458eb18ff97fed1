// SPDX-License-Identifier: AGPL-3.0-or-later

package program

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/test/must"
)

func shell(script string) Command { return Command{Args: []string{"sh", "-c", script}} }

// A program gets its stdin, environment and folder, and what it prints is kept in its
// order; stdout apart, if it is asked for.
func TestRun(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	c := shell(`cat; echo "$ADDED $NOTIFY_SOCKET"; pwd; echo said >&2; nice`)
	c.Stdin, c.Env, c.Dir, c.Nice = []byte("in\n"), []string{"ADDED=more"}, "/", 5
	said, err := Run(t.Context(), c)
	must.OK(t, err)
	if want := []string{"in", "more", "/", "said"}; !slices.Equal(said[:4], want) {
		t.Errorf("said %q, want %q", said, want)
	}
	before, err := strconv.Atoi(must.Run(t, "nice"))
	must.OK(t, err)
	if want := strconv.Itoa(min(19, before+5)); said[4] != want {
		t.Errorf("it runs with nice %s, want %s", said[4], want)
	}
	out := &Capped{Most: 100}
	c = shell("printf out; echo said >&2")
	c.Stdout = out
	said, err = Run(t.Context(), c)
	must.OK(t, err)
	if string(out.Bytes) != "out" || !slices.Equal(said, []string{"said"}) {
		t.Errorf("printed %q, said %q", out.Bytes, said)
	}
}

// Each way of failing is told apart, in words for whoever configured the program.
func TestFailures(t *testing.T) {
	dir := t.TempDir()
	script := func(name, text string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		must.OK(t, os.WriteFile(path, []byte(text), mode))
		return path
	}
	capped := shell("yes")
	capped.Stdout = &Capped{Most: 1000}
	apart := shell("echo first >&2; echo second >&2; echo third; exit 3")
	apart.Stdout = &Capped{Most: 1000}
	hanging := shell("trap '' TERM; echo waits >&2; while :; do sleep 1; done")
	hanging.Timeout = time.Millisecond
	for _, c := range []struct {
		name    string
		command Command
		want    string
	}{
		{"nothing", Command{}, "a program has no name"},
		{"absent", Command{Args: []string{"/not/there"}}, "/not/there is not there"},
		{"not in PATH", Command{Args: []string{"no-such-program"}}, "no-such-program is not there: no folder of $PATH has it"},
		{"folder", Command{Args: []string{dir}}, dir + " is a folder"},
		{"not executable", Command{Args: []string{script("plain", "#!/bin/sh\n", 0o644)}}, "is not executable"},
		{"no interpreter", Command{Args: []string{script("lost", "#!/not/there\n", 0o755)}}, "the interpreter in its first line is not there"},
		{"no program", Command{Args: []string{script("text", "\x01\x02\x03\x04", 0o755)}}, "is neither a program of this machine nor a script"},
		{"status", shell("echo first >&2; echo second >&2; exit 3"), "sh failed with exit status 3: first; second"},
		{"status after much", shell("for i in 1 2 3 4 5; do echo line $i; done; echo why >&2; exit 3"), "sh failed with exit status 3: line 4; line 5; why"},
		{"status and stdout", apart, "sh failed with exit status 3: first; second"},
		{"signal", shell("kill -KILL $$"), "sh was killed by signal 9 (killed)"},
		{"too much", capped, "sh printed more than 1000 bytes"},
		{"hangs", hanging, "sh has not ended within 1ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Run(t.Context(), c.command)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if e.Ran() != strings.HasPrefix(c.name, "status") {
				t.Errorf("ran: %v", e.Ran())
			}
		})
	}
}

// What can be known before is what Check says, in the words of Run.
func TestCheck(t *testing.T) {
	must.OK(t, Check([]string{"sh"}))
	for _, program := range []string{"/not/there", "no-such-program", "/"} {
		_, want := Run(t.Context(), Command{Args: []string{program}})
		if err := Check([]string{program}); err == nil || err.Error() != want.Error() {
			t.Errorf("%s: %v, Run says %v", program, err, want)
		}
	}
}

// The end of a program is that of all it started, also when it is interrupted.
func TestWholeGroup(t *testing.T) {
	for _, c := range []struct{ name, last string }{{"ends", "exit 0"}, {"interrupted", "sleep 1000"}} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			command := shell(fmt.Sprintf("sleep 1000 & echo $! > %[1]s.new; mv %[1]s.new %[1]s; %s", file, c.last))
			done := make(chan error, 1)
			go func() {
				_, err := Run(ctx, command)
				done <- err
			}()
			must.Wait(t, "it has started another", func() bool { _, err := os.Stat(file); return err == nil })
			if c.name == "interrupted" {
				cancel()
			}
			if err := <-done; errors.Is(err, context.Canceled) != (c.name == "interrupted") {
				t.Errorf("it ended with %v", err)
			}
			text, err := os.ReadFile(file)
			must.OK(t, err)
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			must.OK(t, err)
			must.Wait(t, "what it started is over", func() bool { return !runs(pid) })
		})
	}
}

// runs tells whether a process is neither gone nor a zombie, which its parent has left
// to others.
func runs(pid int) bool {
	if unix.Kill(pid, 0) != nil {
		return false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(status), ") Z ")
}

// What is left in another session does not keep Run waiting for its outputs.
func TestLeftBehind(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	_, err := Run(t.Context(), shell("setsid sh -c 'echo $$ > "+file+"; exec sleep 1000' & while [ ! -s "+file+" ]; do sleep 0.01; done"))
	must.OK(t, err)
	text, err := os.ReadFile(file)
	must.OK(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must.OK(t, err)
	must.OK(t, unix.Kill(pid, unix.SIGKILL))
}

// Of a lot of output the first and the last lines are kept, and of a long line its
// beginning.
func TestExcerpt(t *testing.T) {
	said, err := Run(t.Context(), shell("i=0; while [ $i -lt 20000 ]; do echo line $i of a megabyte or so of what a program can print; i=$((i+1)); done"))
	must.OK(t, err)
	if len(said) != 2*mostLines+1 || !strings.HasPrefix(said[0], "line 0 ") || !strings.HasPrefix(said[2*mostLines], "line 19999 ") || !strings.Contains(said[mostLines], "left out") {
		t.Errorf("%d lines: %q", len(said), said)
	}
	said, err = Run(t.Context(), shell("i=0; while [ $i -lt 100 ]; do echo $i; i=$((i+1)); done"))
	must.OK(t, err)
	if len(said) != 2*mostLines+1 || said[mostLines] != "(60 lines are left out)" || said[mostLines+1] != "80" {
		t.Errorf("%d lines: %q", len(said), said)
	}
	said, err = Run(t.Context(), shell(`head -c 3000 /dev/zero | tr '\0' x; printf '\377\n\n'`))
	must.OK(t, err)
	if len(said) != 1 || len(said[0]) != mostLine+len("…") {
		t.Errorf("a long line: %q", said)
	}
}
