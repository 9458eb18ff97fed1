// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"time"
)

// patience is how long a test waits for what has to happen. It decides nothing:
// a test that waits so long has failed.
const patience = 60 * time.Second

// A receiver is a running `ostree-upload receive` on a free port.
type receiver struct {
	address string // host:port
	process *os.Process
	log     log
	ended   chan struct{} // closed at its end
	err     error         // how it ended
}

// log collects the stderr of a process.
type log struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *log) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(&l.lines, line)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

var receiving = regexp.MustCompile(`\bmsg=receiving address=(\S+)`)

// startReceiver starts a server in a folder and waits until it listens.
func startReceiver(dir string, env []string, args ...string) (*receiver, error) {
	return startProgram("ostree-upload", dir, env, args...)
}

// startProgram does it with another build of the program.
func startProgram(program, dir string, env []string, args ...string) (*receiver, error) {
	cmd := exec.Command(program, append([]string{"receive", "--address", "127.0.0.1:0"}, args...)...)
	cmd.Dir, cmd.Env = dir, env
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r := &receiver{process: cmd.Process, ended: make(chan struct{})}
	address := make(chan string, 1)
	go func() {
		defer close(r.ended)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			r.log.add(lines.Text())
			if m := receiving.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
		r.err = cmd.Wait()
	}()
	select {
	case r.address = <-address:
		return r, nil
	case <-r.ended:
		return nil, fmt.Errorf("the server did not start: %v\n%s", r.err, &r.log)
	case <-time.After(patience):
		r.kill()
		return nil, fmt.Errorf("the server says nothing of listening:\n%s", &r.log)
	}
}

// kill ends it as a power cut would, but for the disk.
func (r *receiver) kill() {
	r.process.Kill() // fails where it has ended
	<-r.ended
}

// stop ends it by SIGTERM; it has to exit with 0.
func (r *receiver) stop() error {
	if err := r.process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return r.wait()
}

// wait waits for its end.
func (r *receiver) wait() error {
	select {
	case <-r.ended:
	case <-time.After(patience):
		r.kill()
		return errors.New("the server did not stop")
	}
	if r.err != nil {
		return fmt.Errorf("the server ended with %w:\n%s", r.err, &r.log)
	}
	return nil
}
