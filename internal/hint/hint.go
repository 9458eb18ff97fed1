// SPDX-License-Identifier: AGPL-3.0-or-later

// Package hint gives an error a next step for the person who meets it. The
// command line prints it in a line of its own, behind "hint:".
package hint

import (
	"errors"
	"fmt"
	"strings"
)

// Error is an error with a next step.
type Error struct {
	err  error
	hint string
}

// Error is the error's own text.
func (e *Error) Error() string { return e.err.Error() }

// Unwrap returns the error without its hint.
func (e *Error) Unwrap() error { return e.err }

// Hint is the next step.
func (e *Error) Hint() string { return e.hint }

// Add says what to do about err, which is not nil.
func Add(err error, format string, args ...any) *Error {
	return &Error{err: err, hint: fmt.Sprintf(format, args...)}
}

// Of is the outermost hint in err, or "".
func Of(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// Word is s as a shell takes it for one word.
func Word(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-:=+@%") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
