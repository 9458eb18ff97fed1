// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"errors"
	"net/http"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// Exit codes of the command line.
const (
	ExitFailed      = 1   // for good
	ExitUsage       = 2   // wrong usage
	ExitRefused     = 3   // token, policy, not fast-forward, ref moved
	ExitForNow      = 75  // gave up; the session lives
	ExitInterrupted = 130 // by a signal; the session lives
)

// An Error ends a push.
type Error struct {
	Exit     int    // the exit code of the process
	Code     string // one of wire's codes, "interrupted", "gave-up", "bad-answer" or ""
	Err      error
	HintText string
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns what happened.
func (e *Error) Unwrap() error { return e.Err }

// ExitCode is the exit code of the process.
func (e *Error) ExitCode() int { return e.Exit }

// Hint says what a person can do next, or "".
func (e *Error) Hint() string { return e.HintText }

// Result is what a push that ended before it began has to show for itself.
func (e *Error) Result() *Result {
	return &Result{Refs: []wire.Ref{}, Error: e.Error(), ErrorCode: e.Code, ExitCode: e.Exit}
}

// refusals are the codes that no repetition changes: exit code 3.
var refusals = map[string]bool{
	wire.Unauthorized: true, wire.Forbidden: true, wire.Policy: true,
	wire.RefConflict: true, wire.RefMoved: true, wire.NotFastForward: true,
}

// ended makes the *Error of whatever ended a push. resume is the command that
// goes on with it, "" as long as there is no session.
func ended(ctx context.Context, err error, resume string) *Error {
	if ctx.Err() != nil {
		return &Error{Exit: ExitInterrupted, Code: "interrupted", Err: errors.New("interrupted"), HintText: resumeHint(resume)}
	}
	var known *Error
	var gaveUp *gaveUpError
	var problem *wire.Problem
	var bad *ostree.BadObjectError
	switch {
	case errors.As(err, &known):
		e := *known
		if e.HintText == "" {
			e.HintText = resumeHint(resume)
		}
		return &e
	case errors.Is(err, errAlien):
		hint := "see that the address is right, and no proxy or login page in the way"
		if resume != "" {
			hint += ", then " + resumeHint(resume)
		}
		return &Error{Exit: ExitForNow, Code: "bad-answer", Err: err, HintText: hint}
	case errors.As(err, &gaveUp):
		hint := resumeHint(resume)
		if hint == "" {
			hint = "is the server running, and is the address right?"
		}
		return &Error{Exit: ExitForNow, Code: "gave-up", Err: err, HintText: hint}
	case errors.As(err, &problem):
		e := &Error{Exit: problemExit(problem), Code: problem.Code(), Err: err, HintText: problem.Hint()}
		if e.Exit == ExitForNow || e.HintText == "" {
			e.HintText = resumeHint(resume)
		}
		return e
	case errors.Is(err, ostree.ErrNoRepo):
		return &Error{Exit: ExitFailed, Err: err, HintText: "name the build repository with --repo"}
	case errors.As(err, &bad):
		return &Error{Exit: ExitFailed, Code: wire.BadObjects, Err: err}
	}
	return &Error{Exit: ExitFailed, Err: err, HintText: resumeHint(resume)}
}

// problemExit is the exit code of what a server refused.
func problemExit(p *wire.Problem) int {
	switch {
	case p.Status == http.StatusUnauthorized, p.Status == http.StatusForbidden, refusals[p.Code()]:
		return ExitRefused
	case p.Status == http.StatusInsufficientStorage:
		return ExitForNow
	}
	return ExitFailed
}

func resumeHint(command string) string {
	if command == "" {
		return ""
	}
	return "go on with: " + command
}
