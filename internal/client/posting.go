// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"errors"
	"net/http"

	"github.com/lirios/ostree-upload/internal/wire"
)

// sendPosting sends req, or a POST in its place where a firewall lets only GET, HEAD
// and POST through. That is found out once: where something refuses a PATCH or DELETE,
// and our server answers the POST, all later ones go as POST at once.
func (t *transport) sendPosting(req *http.Request, token string) (*http.Response, error) {
	if req.Method != http.MethodPatch && req.Method != http.MethodDelete {
		return t.sendExpecting(req, token)
	}
	if t.posting.Load() {
		return t.sendExpecting(posted(req), token)
	}
	res, err := t.sendExpecting(req, token)
	if !refusesMethod(err) {
		return res, err
	}
	again, repeatable := repeated(req)
	if !repeatable {
		return nil, err
	}
	res, second := t.sendExpecting(posted(again), token)
	older := Code(second) != "" && Status(second) == http.StatusMethodNotAllowed // a server that does not know the header
	if older || refusesMethod(second) && !isHeadCut(second) {
		return nil, err
	}
	if second == nil || Code(second) != "" {
		t.posting.Store(true)
	}
	return res, second // if it is not the server's, it has other reasons, such as the size
}

// refusesMethod tells whether err may be a firewall's that does not like the method.
// Each product has an answer of its own for that: a status, a page, a redirect to one.
func refusesMethod(err error) bool {
	var answer *answerError
	if !errors.As(err, &answer) {
		return errors.Is(err, ErrBadAnswer) || isHeadCut(err)
	}
	if !answer.foreign() || answer.interrupted() {
		return false
	}
	switch status := answer.problem.Status; status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusNotAcceptable, http.StatusNotImplemented:
		return true
	default:
		return status < 400
	}
}

// A headCutError is of a connection that was cut when it had brought the header of a
// request, whose body nobody had asked for: firewalls do so that do not like the method.
type headCutError struct{ error }

func (e headCutError) Unwrap() error { return e.error }

func isHeadCut(err error) bool { return errors.As(err, new(headCutError)) }

// posted is req as a POST that stands for it.
func posted(req *http.Request) *http.Request {
	post := req.Clone(req.Context())
	post.Header.Set(wire.OverrideHeader, req.Method)
	post.Method = http.MethodPost
	return post
}

// methodOf is the method that req stands for.
func methodOf(req *http.Request) string {
	if method := req.Header.Get(wire.OverrideHeader); method != "" {
		return method
	}
	return req.Method
}
