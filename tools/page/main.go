// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

// Page shows the operator's page with a server that is busy: `make page` starts one with
// a past of all kinds and pushes over slow links that go on until Ctrl-C, and prints its
// address and tokens. `make page-pictures` takes pictures of it instead.
//
// All of it happens in a temporary folder, which is gone afterwards, and on ports of the
// loopback interface. Pushes, outcomes and refs are real ones.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	// Children are told to die with the thread that started them, see command.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "page:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	address := flag.String("address", "127.0.0.1:0", "`HOST:PORT` to listen at")
	pictures := flag.String("pictures", "", "take pictures into a `folder`, and end")
	docs := flag.String("docs", "", "copy those of the documentation into a `folder`")
	flag.Parse()
	if flag.NArg() != 1 {
		return errors.New("usage: page [-address HOST:PORT] [-pictures FOLDER [-docs FOLDER]] path/to/ostree-upload")
	}
	h, err := newHost(flag.Arg(0))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.end()) }()
	if err := h.start(ctx, *address); err != nil {
		return err
	}
	fmt.Println("making a past; some seconds")
	if err := h.makePast(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	builders := h.live(ctx)
	defer func() {
		stop()
		err = errors.Join(err, builders.Wait())
	}()
	if *pictures != "" {
		return h.takePictures(ctx, *pictures, *docs)
	}
	h.tell()
	<-ctx.Done()
	return nil
}

// tell prints what a person needs.
func (h *host) tell() {
	fmt.Printf("\nthe page is at\n\n    %s/\n\nand takes these tokens:\n\n", h.address)
	for _, t := range tokens {
		fmt.Printf("    %-14s %s   (%s)\n", t.name, h.tokens[t.name], strings.Join(t.flags, " "))
	}
	fmt.Println("\nCtrl-C ends it")
}

// command is a child that gets SIGTERM when ctx ends, and is killed if it does not end
// then, or if this program is killed.
func (h *host) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = h.folder
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// output runs a command and returns its stdout. What it had to say on stderr is part of
// the error.
func (h *host) output(ctx context.Context, name string, args ...string) (string, error) {
	return output(h.command(ctx, name, args...))
}

func output(cmd *exec.Cmd) (string, error) {
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(cmd.Path), strings.Join(cmd.Args[1:], " "), err, complaints.String())
	}
	return strings.TrimSpace(string(out)), nil
}
