// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
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
	after   time.Duration // of Retry-After, or 0
	text    string        // the first of the body, in which tus names its errors
}

func (e *answerError) Error() string { return e.problem.Error() }

// Unwrap returns the *wire.Problem, and so its hint.
func (e *answerError) Unwrap() error { return e.problem }

func (e *answerError) kind() Kind {
	switch status := e.problem.Status; status {
	case http.StatusInsufficientStorage:
		return NoSpace
	case http.StatusUnauthorized, http.StatusForbidden:
		return Refused
	case http.StatusRequestTimeout, http.StatusLocked, http.StatusTooEarly, http.StatusTooManyRequests:
		return Temporary
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return Permanent
	default:
		if status >= 500 || status == http.StatusBadRequest && e.interrupted() {
			return Temporary
		}
	}
	if IsRefusal(e.problem.Code()) {
		return Refused
	}
	return Permanent
}

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
func (t *transport) answer(req *http.Request, res *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(res.Body, maxProblem)) // what came of it is enough
	e := &answerError{after: retryAfter(res.Header, time.Now()), text: string(b)}
	contentType, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if contentType == wire.ProblemType {
		var p wire.Problem
		if err := json.Unmarshal(b, &p); err == nil {
			p.Status = res.StatusCode
			e.problem = &p
			t.askForToken(e.problem)
			return e
		}
	}
	e.problem = t.foreignProblem(req, res, e.text)
	t.askForToken(e.problem)
	return e
}

// foreignProblem describes an answer that is not a success and not our server's.
func (t *transport) foreignProblem(req *http.Request, res *http.Response, body string) *wire.Problem {
	p := &wire.Problem{
		Type: "about:blank", Title: http.StatusText(res.StatusCode), Status: res.StatusCode,
		Detail: fmt.Sprintf("%s answers %q to %s %s", t.base.Host, res.Status, req.Method, req.URL.Path),
	}
	if res.StatusCode < 400 {
		t.explainRedirect(p, req, res)
	} else {
		explainForeign(p, t.base, body)
	}
	return p
}

// askForToken says how to give a token, if there was none to send.
func (t *transport) askForToken(p *wire.Problem) {
	if p.Status == http.StatusUnauthorized && t.token == "" {
		p.HintIs = tokenHint
	}
}

// explainRedirect explains an answer that points elsewhere. It is not followed:
// the token was given for this address.
func (t *transport) explainRedirect(p *wire.Problem, req *http.Request, res *http.Response) {
	p.Detail = fmt.Sprintf("%s redirects to another address (%s), and the token is not sent there", t.base, res.Status)
	to, err := res.Location()
	if err != nil {
		return
	}
	to.RawQuery, to.Fragment = "", ""
	path, whole := strings.CutSuffix(to.Path, strings.TrimPrefix(req.URL.Path, t.base.Path))
	if whole {
		to.Path = path
	}
	p.WithHint("if you trust it, use --address %s", to.Redacted())
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
