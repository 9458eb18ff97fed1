// SPDX-License-Identifier: AGPL-3.0-or-later

// Package program runs the programs that an operator's configuration names.
//
//   - A program and what it starts are one process group. When Run returns, nothing of
//     that group runs any more: what a program leaves behind is killed.
//   - A program ends with this process, however that ends.
//   - What it prints is read to the end, and a bounded part of it is kept.
//   - It has no terminal, and nothing of what systemd told this process.
//
// A caller holds no lock while a program runs that this program may want. Any number may
// run at the same time.
package program

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultTimeout is how long a program may take that has no Timeout.
const DefaultTimeout = 10 * time.Minute

// A program that has to end is asked to, and killed when stopTime is over. What it left
// behind may hold its outputs open; they are read for drainTime more.
const (
	stopTime  = 5 * time.Second
	drainTime = time.Second
)

// Command is a program to be run once.
type Command struct {
	Args    []string // the program, as a path or a name in $PATH, and its arguments
	Env     []string // NAME=VALUE, besides this process's own environment
	Dir     string   // where it runs; "": where this process does
	Stdin   []byte
	Stdout  io.Writer // takes what it prints on stdout; nil: that counts as said, as stderr does
	Nice    int       // by how much its priority is lower
	Timeout time.Duration
}

// Run runs a program to its end and returns what it said: the first and the last lines
// of its stderr. The error is an *Error; after the end of ctx it is also ctx's.
func Run(ctx context.Context, c Command) (said []string, err error) {
	runtime.LockOSThread() // the kernel ends the program together with the thread that started it
	defer runtime.UnlockOSThread()
	path, err := find(c.Args)
	if err != nil {
		return nil, err
	}
	heard, taken := new(excerpt), &taker{to: c.Stdout}
	cmd := c.prepare(path, heard, taken)
	if err := c.start(cmd); err != nil {
		return nil, notStarted(c.Args[0], err)
	}
	err = c.await(ctx, cmd)
	err = cmp.Or(taken.err, err) // whose end is what came of it
	said = heard.lines()
	if err != nil {
		return said, failed(c, err, said)
	}
	return said, nil
}

// Check tells whether a program can be run, in the same words as Run.
func Check(args []string) error {
	_, err := find(args)
	return err
}

func (c *Command) prepare(path string, heard *excerpt, taken *taker) *exec.Cmd {
	cmd := exec.Command(path, c.Args[1:]...) // #nosec G204 -- the operator's own program
	cmd.Args[0] = c.Args[0]
	cmd.Dir, cmd.Env = c.Dir, append(environment(), c.Env...)
	cmd.Stdin = bytes.NewReader(c.Stdin)
	cmd.Stdout, cmd.Stderr = taken, heard
	if c.Stdout == nil {
		cmd.Stdout = heard // the same pipe, so that lines keep their order
	}
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	cmd.WaitDelay = drainTime
	return cmd
}

// environment is this process's own, without what systemd says to it alone.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return slices.ContainsFunc([]string{"NOTIFY_", "LISTEN_", "WATCHDOG_"}, func(p string) bool { return strings.HasPrefix(v, p) })
	})
}

func (c *Command) start(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil || c.Nice == 0 {
		return err
	}
	err := lowerPriority(cmd.Process.Pid, c.Nice)
	// It may be over, and a sandbox may forbid this: better with the server's own priority
	// than not at all.
	if err == nil || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return nil
	}
	killed := signal(cmd.Process.Pid, unix.SIGKILL)
	_ = cmd.Wait() // it was killed
	return errors.Join(fmt.Errorf("lower its priority: %w", err), killed)
}

// lowerPriority adds to the niceness of a group, which is this process's own.
func lowerPriority(group, by int) error {
	own, err := unix.Getpriority(unix.PRIO_PROCESS, 0) // the kernel says 20 less the niceness
	if err != nil {
		return err
	}
	return unix.Setpriority(unix.PRIO_PGRP, group, min(19, 20-own+by))
}

// await waits for the end of a program, which it brings about when ctx or the program's
// time ends.
func (c *Command) await(ctx context.Context, cmd *exec.Cmd) error {
	limit := cmp.Or(c.Timeout, DefaultTimeout)
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	pid := cmd.Process.Pid
	ended := make(chan error, 1)
	go func() { ended <- exited(pid) }()
	var cut, lost error
	select {
	case lost = <-ended:
	case <-timed.Done():
		cut = cmp.Or(ctx.Err(), error(&timeoutError{limit}))
		lost = stop(pid, ended)
	}
	// The program is not reaped yet: its group is still its own.
	lost = errors.Join(lost, signal(pid, unix.SIGKILL))
	err := cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // what it left behind in another session has its outputs
	}
	if cut != nil {
		err = cut
	}
	return cmp.Or(err, lost)
}

// stop asks a program's group to end, and kills it if it does not.
func stop(pid int, ended <-chan error) error {
	err := signal(pid, unix.SIGTERM)
	patience := time.NewTimer(stopTime)
	defer patience.Stop()
	select {
	case lost := <-ended:
		return errors.Join(err, lost)
	case <-patience.C:
		err = errors.Join(err, signal(pid, unix.SIGKILL))
		return errors.Join(err, <-ended)
	}
}

// exited waits for the end of a child and leaves it to be reaped.
func exited(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// signal sends a signal to a group. One that is over is not an error, nor is one of
// which the rest runs as another user: that ends by itself.
func signal(group int, s unix.Signal) error {
	err := unix.Kill(-group, s)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}
