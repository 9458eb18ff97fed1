// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"errors"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/hint"
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

// ExitCode is the exit code for an error of package client, ExitFailed for any
// other.
func ExitCode(err error) int {
	switch client.KindOf(err) {
	case client.Usage:
		return ExitUsage
	case client.Refused:
		return ExitRefused
	case client.Temporary, client.NoSpace:
		return ExitForNow
	}
	return ExitFailed
}

// An Error ends a push.
type Error struct {
	Exit     int    // the exit code of the process
	Code     string // one of wire's codes, "interrupted", "gave-up", "bad-answer" or ""
	Err      error
	HintText string
	Request  string // ID under which the server's log has the requests; "" before it has answered
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns what happened.
func (e *Error) Unwrap() error { return e.Err }

// ExitCode is the exit code of the process.
func (e *Error) ExitCode() int { return e.Exit }

// Hint says what a person can do next, or "".
func (e *Error) Hint() string { return e.HintText }

// RequestID is the ID under which the server's log has the requests, or "".
func (e *Error) RequestID() string { return e.Request }

// Result is what a push that ended before it began has to show for itself.
func (e *Error) Result() *Result {
	return &Result{Refs: []wire.Ref{}, Left: []Left{}, Error: e.Error(), ErrorCode: e.Code, ExitCode: e.Exit, Hint: e.HintText}
}

// ended makes the *Error of whatever ended a push. resume is the command that
// goes on with it, "" as long as there is no session.
func ended(ctx context.Context, err error, resume string) *Error {
	if told := new(Error); errors.As(err, &told) && told.Exit == ExitInterrupted {
		return told
	}
	if ctx.Err() != nil {
		return &Error{Exit: ExitInterrupted, Code: "interrupted", Err: errors.New("interrupted"), HintText: resumeHint(resume)}
	}
	e := &Error{Exit: ExitCode(err), Code: endCode(err), Err: err, HintText: hint.Of(err)}
	var known *Error
	if errors.As(err, &known) {
		*e = *known
	}
	switch {
	case resume == "":
	case e.Code == badAnswer:
		e.HintText += ", then " + resumeHint(resume)
	case e.HintText == "" || known == nil && e.Exit == ExitForNow:
		e.HintText = resumeHint(resume)
	}
	return e
}

// The codes that no answer of the server has.
const (
	badAnswer = "bad-answer"
	gaveUp    = "gave-up"
	// RefsLeft is the code of a push that published all refs but those it left out.
	RefsLeft = "refs-left-out"
	// WorksDue is the code of a push that published all, and gave up waiting for what
	// is to follow.
	WorksDue = "works-due"
)

// Code is the code of an error that ends a command.
func Code(err error) string {
	var known *Error
	if errors.As(err, &known) {
		return known.Code
	}
	return endCode(err)
}

// endCode is the code of an error that is not an *Error yet.
func endCode(err error) string {
	var late *client.GaveUpError
	switch {
	case errors.Is(err, client.ErrBadAnswer):
		return badAnswer
	case errors.As(err, &late):
		return gaveUp
	case client.KindOf(err) == client.Usage:
		return wire.BadRequest
	}
	return client.Code(err)
}

func resumeHint(command string) string {
	if command == "" {
		return ""
	}
	return "go on with: " + command
}
