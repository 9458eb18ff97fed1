// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

// Demo shows a push that is killed half-way and resumed, with real files of
// this machine, the real server and the ostree command. `make demo` runs it.
// With -s3 the repository is in an object store, versitygw, there are two servers
// behind nginx, and the one with the push is killed: `make demo-s3`.
//
// All of it happens in a temporary folder, which is gone afterwards, and on
// ports of the loopback interface. No step waits for a time to pass: each one
// asks the server how far it is.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/lirios/ostree-upload/test/store"
)

func main() {
	// Children are told to die with the thread that started them, see command.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// A demo is the state that the steps share.
type demo struct {
	binary string // ostree-upload
	folder string // everything is below it

	server  *server // that clients speak to
	session string  // that of the killed push

	// With -s3 only.
	store     *store.Gateway
	receivers []*server // behind d.server
	victim    *server   // of these, the one that was killed
}

const ref = "demo/files"

func run(ctx context.Context, args []string) (err error) {
	inStore := len(args) == 2 && args[0] == "-s3"
	if len(args) != 1 && !inStore {
		return errors.New("usage: demo [-s3] path/to/ostree-upload")
	}
	binary, err := filepath.Abs(args[len(args)-1])
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "ostree-upload-demo-")
	if err != nil {
		return err
	}
	d := &demo{binary: binary, folder: folder}
	defer func() { err = errors.Join(err, d.cleanUp()) }()

	start := time.Now()
	steps := d.steps()
	if inStore {
		steps = d.stepsInStore()
	}
	for _, step := range steps {
		if err := d.step(ctx, step); err != nil {
			return fmt.Errorf("the step %q failed: %w", step.what, err)
		}
	}
	fmt.Printf("%6.1f s  all of it\n", time.Since(start).Seconds())
	return nil
}

// A step says what it does once it is done, and tells of it.
type step struct {
	what string
	do   func(context.Context) (string, error)
}

func (d *demo) steps() []step {
	return []step{
		{"build repository made", d.makeBuildRepo},
		{"server started", d.startServer},
		{"push killed", d.killedPush},
		{"push resumed", d.resumedPush},
		{"sessions listed", d.listSessions},
		{"ref pulled", d.pull},
		{"copy checked", d.check},
	}
}

// step does one step, and tells what it did and how long it took.
func (d *demo) step(ctx context.Context, s step) error {
	start := time.Now()
	words, err := s.do(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%6.1f s  %s: %s\n", time.Since(start).Seconds(), s.what, words)
	return nil
}

func (d *demo) cleanUp() error {
	for _, s := range append(d.receivers, d.server) {
		if s != nil {
			s.stop()
		}
	}
	if d.store != nil {
		d.store.Stop()
	}
	return os.RemoveAll(d.folder)
}

func (d *demo) path(name string) string { return filepath.Join(d.folder, name) }

// command is a child that gets SIGTERM when ctx ends, and is killed if it does
// not end then, or if the demo itself is killed.
func (d *demo) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = d.folder
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// output runs a command and returns its stdout. What it had to say on stderr
// is part of the error.
func (d *demo) output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := d.command(ctx, name, args...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, complaints.String())
	}
	return strings.TrimSpace(string(out)), nil
}

func (d *demo) ostree(ctx context.Context, args ...string) (string, error) {
	return d.output(ctx, "ostree", args...)
}

// makeRepo makes an archive repository of the demo's own. It need not survive
// a power cut, unlike the server's.
func (d *demo) makeRepo(ctx context.Context, name string) error {
	if _, err := d.ostree(ctx, "init", "--repo="+name, "--mode=archive"); err != nil {
		return err
	}
	_, err := d.ostree(ctx, "config", "--repo="+name, "set", "core.fsync", "false")
	return err
}
