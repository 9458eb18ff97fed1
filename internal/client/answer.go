// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

// maxProblem bounds what is read of an answer that is an error.
const maxProblem = 1 << 20

// An answerError is an answer that is not a success.
type answerError struct {
	problem *wire.Problem
	header  http.Header
	after   time.Duration // of Retry-After, or 0
	text    string        // the first of the body, in which tus names its errors
	passing bool          // another answer may come although this one sounds final
	begun   bool          // it came while the request's body was sent, or after that
	renewed bool          // it refused a token that there is another one for by now
}

func (e *answerError) Error() string { return e.problem.Error() }

// Unwrap returns the *wire.Problem, and so its hint.
func (e *answerError) Unwrap() error { return e.problem }

func (e *answerError) kind() Kind {
	switch status := e.problem.Status; {
	case e.passing, status == http.StatusBadRequest && e.interrupted():
		return Temporary
	case e.foreign():
		return foreignKind(status)
	case status == http.StatusInsufficientStorage:
		return NoSpace
	case status == http.StatusUnauthorized, status == http.StatusForbidden, IsRefusal(e.problem.Code()):
		return Refused
	case status == http.StatusRequestTimeout, status == http.StatusLocked, status == http.StatusTooManyRequests, status >= 500:
		return Temporary
	}
	return Permanent
}

// foreign reports whether the answer is not our server's.
func (e *answerError) foreign() bool { return e.problem.Code() == "" }

// interrupted reports whether the server saw this upload's request break off:
// tus servers call that the client's fault (400).
func (e *answerError) interrupted() bool {
	for _, word := range []string{
		"ERR_UPLOAD_INTERRUPTED", "ERR_UNEXPECTED_EOF", "ERR_UPLOAD_STOPPED", "ERR_READ_TIMEOUT",
		"upload has been interrupted", "unexpected EOF", "expected to receive more bytes",
	} {
		if strings.Contains(e.text, word) {
			return true
		}
	}
	return false
}

// answer makes the error of an answer that is not a success.
func (t *transport) answer(req *http.Request, res *http.Response) *answerError {
	b, _ := io.ReadAll(io.LimitReader(res.Body, maxProblem)) // what came of it is enough
	e := &answerError{header: res.Header, after: retryAfter(res.Header, time.Now()), text: string(b)}
	var p wire.Problem
	if mediaType(res.Header) == wire.ProblemType {
		if req.Method == http.MethodHead { // which has no body
			p = headProblem(req, res)
		} else if json.Unmarshal(b, &p) != nil {
			p = wire.Problem{}
		}
		if p.Code() != "" {
			t.reached.Store(true)
			p.Status = res.StatusCode
			p.Request = t.requestOf(p.Request, res)
			e.problem = &p
			if p.Status == http.StatusUnauthorized && t.token.none() {
				p.HintIs = tokenHint()
			}
			return e
		}
	}
	t.explainForeign(e, req, res)
	if said := cmp.Or(p.Detail, p.Title); said != "" {
		e.problem.Detail += fmt.Sprintf(", %.200q", said)
	}
	return e
}

// requestOf is the ID under which the server logged a request: ours, unless something
// on the way put its own in the place. What comes from outside has to have the form.
func (t *transport) requestOf(said string, res *http.Response) string {
	for _, id := range []string{said, res.Header.Get(wire.RequestHeader)} {
		if wire.IsRequestID(id) {
			return id
		}
	}
	return t.id
}

// headProblem is what is known of an error of ours that answers a HEAD.
func headProblem(req *http.Request, res *http.Response) wire.Problem {
	title := strings.ToLower(http.StatusText(res.StatusCode))
	return wire.Problem{
		Type: wire.TypePrefix + strings.ReplaceAll(title, " ", "-"), Title: title,
		Detail: fmt.Sprintf("the server answers %q to HEAD %s", res.Status, req.URL.Path),
	}
}

func mediaType(h http.Header) string {
	t, _, _ := mime.ParseMediaType(h.Get("Content-Type")) // "" for what is none
	return t
}

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if s, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// askedPause is how long the server's answer in err asks to wait.
func askedPause(err error) time.Duration {
	var answer *answerError
	if errors.As(err, &answer) {
		return answer.after
	}
	return 0
}
