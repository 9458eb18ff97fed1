// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/lirios/ostree-upload/internal/hint"
)

// What a command for tokens may take.
const (
	commandTime = time.Minute
	mostPrinted = 64 << 10 // bytes of each of its outputs that are kept
	mostSaid    = 1000     // bytes of its stderr that an error repeats
)

// TokenCommand gets the token that a command prints, in its first line. A shell runs the
// command. That it fails is Temporary, unless it cannot be run.
func TokenCommand(command string) TokenSource {
	return func(ctx context.Context) (string, error) {
		token, err := runForToken(ctx, command)
		if err != nil {
			return "", hint.Add(err, "see that the command prints a token and nothing else: it is run by sh -c")
		}
		return token, nil
	}
}

func runForToken(ctx context.Context, command string) (string, error) {
	timed, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	cmd := exec.CommandContext(timed, "sh", "-c", command) // #nosec G204 -- the user's own command
	stdout, stderr := &head{}, &head{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	// What it starts ends with it. And in a session without a terminal it fails where it
	// would ask there; in this one it would be stopped, and nobody told why.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // what it leaves behind may hold its outputs open
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if timed.Err() != nil {
		err = fmt.Errorf("it has not ended within %s", commandTime)
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return "", failedCommand(err, string(stderr.kept))
	}
	token, _, _ := strings.Cut(strings.TrimSpace(string(stdout.kept)), "\n")
	if token == "" {
		return "", errors.New(withSaid("the token command printed no token", string(stderr.kept)))
	}
	return token, nil
}

// failedCommand is the error of a command, with what that said about it.
func failedCommand(err error, said string) error {
	text := withSaid(fmt.Sprintf("the token command failed: %v", err), said)
	exit := new(exec.ExitError)
	ran := !errors.As(err, &exit) || exit.ExitCode() != 126 && exit.ExitCode() != 127 // of the shell
	if !ran || errors.Is(err, exec.ErrNotFound) {
		return errors.New(text)
	}
	return retryableError{errors.New(text)}
}

// withSaid adds to an error the beginning of what the command said.
func withSaid(text, said string) string {
	if said = strings.TrimSpace(said); len(said) > mostSaid {
		said = said[:mostSaid] + "..."
	}
	if said == "" {
		return text
	}
	return text + ": " + said
}

// head keeps the first mostPrinted bytes that are written to it.
type head struct{ kept []byte }

// Write takes all, and keeps what there is room for.
func (h *head) Write(b []byte) (int, error) {
	h.kept = append(h.kept, b[:min(len(b), mostPrinted-len(h.kept))]...)
	return len(b), nil
}
