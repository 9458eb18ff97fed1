// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/lirios/ostree-upload/internal/wire"
)

// A Kind is what an error of this package means for the next step.
type Kind int

const (
	Permanent Kind = iota // the same request fails again; also any error of another package
	Temporary             // the same request may succeed if it is sent again soon
	NoSpace               // the server's disk is full; a person has to make room
	Refused               // the token may not do this, or the server's refs or policy forbid it
	Usage                 // the address or the token cannot be one
)

// KindOf says what err means. All retries and all exit codes follow from it.
func KindOf(err error) Kind {
	var usage usageError
	var retryable retryableError
	var answer *answerError
	var network *networkError
	switch {
	case errors.As(err, &usage):
		return Usage
	case errors.As(err, &retryable), errors.Is(err, ErrBadAnswer): // a proxy's, perhaps while the server is down
		return Temporary
	case errors.As(err, &answer):
		return answer.kind()
	case errors.As(err, &network):
		return network.kind()
	}
	return Permanent
}

// IsRefusal tells whether a code, of an answer or of a session's outcome, is one
// that only a person can change.
func IsRefusal(code string) bool {
	switch code {
	case wire.Unauthorized, wire.Forbidden, wire.Policy, wire.RefConflict, wire.RefMoved, wire.NotFastForward:
		return true
	}
	return false
}

// Code is the code of the server's answer in err, or "".
func Code(err error) string {
	var answer *answerError
	if errors.As(err, &answer) {
		return answer.problem.Code()
	}
	return ""
}

// RequestOf is the ID under which the server's log has the request that failed with
// err, or "" if err is no answer of the server.
func RequestOf(err error) string {
	var answer *answerError
	if errors.As(err, &answer) {
		return answer.problem.Request
	}
	return ""
}

// Status is the HTTP status of the server's answer in err, or 0.
func Status(err error) int {
	var answer *answerError
	if errors.As(err, &answer) {
		return answer.problem.Status
	}
	return 0
}

// ErrBadAnswer is in the error of a success that makes no sense: most likely a
// proxy's or a login page's.
var ErrBadAnswer = errors.New("this is not an answer of an ostree-upload server")

// A networkError says that there was no answer, or only a part of one.
type networkError struct {
	address string
	via     *via // nil: there is no proxy
	err     error
}

func (e *networkError) Error() string {
	switch {
	case unreached(e.err) && e.via != nil:
		return fmt.Sprintf("cannot reach %s: %v", e.via, e.err)
	case unreached(e.err):
		return fmt.Sprintf("cannot reach %s: %v", e.address, e.err)
	case e.via != nil:
		return fmt.Sprintf("connection to %s through %s failed: %v", e.address, e.via, e.err)
	}
	return fmt.Sprintf("connection to %s failed: %v", e.address, e.err)
}

// unreached tells whether there was no connection, to the server or to a proxy.
func unreached(err error) bool {
	var op *net.OpError
	for errors.As(err, &op) {
		if op.Op == "dial" {
			return true
		}
		err = op.Err
	}
	return false
}

// Unwrap returns what happened.
func (e *networkError) Unwrap() error { return e.err }

// Hint says what a person can do next.
func (e *networkError) Hint() string {
	text, _ := e.next()
	return text
}

func (e *networkError) next() (hint string, lasting bool) {
	if e.via != nil {
		return e.via.networkHint(e.err)
	}
	return networkHint(e.err)
}

// kind is Permanent if the address is wrong or the server is not the one that it
// should be: waiting does not help.
func (e *networkError) kind() Kind {
	if _, lasting := e.next(); lasting {
		return Permanent
	}
	return Temporary
}

// A usageError is about the address or the token that the user gave.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// A retryableError is worth another try whatever it wraps: the caller has already
// done what makes the next one differ.
type retryableError struct{ error }

func (e retryableError) Unwrap() error { return e.error }

// unwrapped takes what happened out of what http.Client and go-tus wrap around
// it, so that people read what the server said and not the method and the URL.
func (c *Client) unwrapped(err error) error {
	var answer *answerError
	var request *url.Error
	switch {
	case errors.As(err, &answer):
		return answer
	case errors.As(err, &request) && (errors.Is(err, ErrBadAnswer) || KindOf(err) == Usage):
		return request.Err
	case errors.As(err, &request):
		return &networkError{c.Address(), c.transport.via, request.Err}
	}
	return err
}
