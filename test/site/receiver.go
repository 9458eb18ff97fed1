// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/process"
)

// A Receiver is a running `ostree-upload receive`.
type Receiver struct {
	Address string // host:port, or what else it listens at; empty before Await
	Process *os.Process
	Log     log
	Ended   chan struct{} // closed at its end
	address chan string   // gets Address
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

var receiving = regexp.MustCompile(`\bmsg[":=]+receiving[" ,]+address[":=]+([^" ]+)`) // in either format

// StartReceiver starts a server in a folder and waits until it listens.
func StartReceiver(dir string, env []string, args ...string) (*Receiver, error) {
	return StartProgram("ostree-upload", dir, env, args...)
}

// StartProgram is StartReceiver of another build of the program.
func StartProgram(program, dir string, env []string, args ...string) (*Receiver, error) {
	if err := noteSources(); err != nil {
		return nil, err
	}
	r, err := Launch(receive(program, dir, env, args...))
	if err == nil {
		err = r.Await()
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

func receive(program, dir string, env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, append([]string{"receive", "--address", "127.0.0.1:0"}, args...)...)
	cmd.Dir, cmd.Env = dir, env
	return cmd
}

// Launch starts a server, and waits for nothing.
func Launch(cmd *exec.Cmd) (*Receiver, error) {
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r := &Receiver{Process: cmd.Process, Ended: make(chan struct{}), address: make(chan string, 1)}
	go func() {
		defer close(r.Ended)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			r.Log.add(lines.Text())
			if m := receiving.FindStringSubmatch(lines.Text()); m != nil {
				r.address <- m[1]
			}
		}
		r.err = cmd.Wait()
	}()
	return r, nil
}

// Await waits until it listens.
func (r *Receiver) Await() error {
	select {
	case r.Address = <-r.address:
		return nil
	case <-r.Ended:
		return fmt.Errorf("the server did not start: %v\n%s", r.err, &r.Log)
	case <-time.After(must.Patience):
		r.Kill()
		return fmt.Errorf("the server says nothing of listening:\n%s", &r.Log)
	}
}

// Kill ends it as a power cut would, but for the disk.
func (r *Receiver) Kill() {
	r.Process.Kill() // fails where it has ended
	<-r.Ended
}

// Stop ends it by SIGTERM; it has to exit with 0.
func (r *Receiver) Stop() error {
	if process.Stop(r.Process, r.Ended, must.Patience) {
		return errors.New("the server did not stop")
	}
	return r.Wait()
}

// Wait waits for its end.
func (r *Receiver) Wait() error {
	select {
	case <-r.Ended:
	case <-time.After(must.Patience):
		r.Kill()
		return errors.New("the server did not stop")
	}
	if r.err != nil {
		return fmt.Errorf("the server ended with %w:\n%s", r.err, &r.Log)
	}
	return nil
}
