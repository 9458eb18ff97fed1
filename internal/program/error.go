// SPDX-License-Identifier: AGPL-3.0-or-later

package program

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// An Error says why a program did not do what it was run for.
type Error struct {
	Program string   // as the configuration names it
	Started bool     // it was there and could be run
	Status  int      // its exit status, if it ended by itself with another than 0
	Said    []string // the first and the last lines of what it said
	why     string
	err     error
	last    bool // of Said the last lines are quoted: it has what was printed on stdout, too
}

// mostQuoted is how many lines of what a program said stand in an error's text.
const mostQuoted = 3

func (e *Error) Error() string {
	text := fmt.Sprintf("%s %s", e.Program, e.why)
	quoted := e.Said[:min(mostQuoted, len(e.Said))]
	if e.last {
		quoted = e.Said[max(0, len(e.Said)-mostQuoted):]
	}
	if len(quoted) > 0 {
		text += ": " + strings.Join(quoted, "; ")
	}
	return text
}

// Unwrap returns what the system said, or the end of the context.
func (e *Error) Unwrap() error { return e.err }

// Ran tells whether the program ran and ended by itself: its exit status is its answer.
func (e *Error) Ran() bool { return e.Status != 0 }

// A timeoutError says that the time of a program is over.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string { return fmt.Sprintf("has not ended within %s", e.after) }

// find is the path of a program that this user may run.
func find(args []string) (string, error) {
	if len(args) == 0 || args[0] == "" {
		return "", &Error{Program: "a program", why: "has no name", err: fs.ErrInvalid}
	}
	path, err := exec.LookPath(args[0])
	if err == nil {
		return path, nil
	}
	why := "cannot be run: " + err.Error()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		why = "is not there: no folder of $PATH has it"
	case errors.Is(err, fs.ErrNotExist):
		why = "is not there"
	case errors.Is(err, fs.ErrPermission):
		why = fmt.Sprintf("is not executable for user %d, as which the server runs", os.Geteuid())
	case errors.Is(err, unix.EISDIR):
		why = "is a folder"
	}
	return "", &Error{Program: args[0], why: why, err: err}
}

// notStarted is the error of a program that is there and that the kernel does not run.
func notStarted(program string, err error) error {
	why := "cannot be run: " + err.Error()
	switch {
	case errors.Is(err, unix.ENOEXEC):
		why = "is neither a program of this machine nor a script that begins with #! and its interpreter"
	case errors.Is(err, fs.ErrNotExist):
		why = "cannot be run: the interpreter in its first line is not there"
	}
	return &Error{Program: program, why: why, err: err}
}

// failed is the error of a program that ran.
func failed(c Command, err error, said []string) error {
	e := &Error{Program: c.Args[0], Started: true, Said: said, why: err.Error(), err: err, last: c.Stdout == nil}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			e.why = "was ended before it was done"
		}
		return e
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		e.why = fmt.Sprintf("was killed by signal %d (%s)", status.Signal(), status.Signal())
		return e
	}
	e.Status = exit.ExitCode()
	e.why = fmt.Sprintf("failed with exit status %d", e.Status)
	return e
}
