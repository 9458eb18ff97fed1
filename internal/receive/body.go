// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

// small has the whole body read before the handler runs, which is small. There has to
// be room for it and for the answer.
func small(h handlerFunc) handlerFunc {
	return func(w http.ResponseWriter, r *request) error {
		release, err := r.work.hold(r.Context(), need(r))
		if err != nil {
			return err
		}
		defer release()
		read := func() error { return readBody(w, r) }
		if r.ContentLength == 0 { // it does not wait
			err = read()
		} else {
			err = r.work.outside(r.Context(), read)
		}
		if err != nil {
			return err
		}
		return h(w, r)
	}
}

// streamed lets the handler read the body as it comes. What is refused does not have to
// come whole.
func streamed(h handlerFunc) handlerFunc {
	return func(w http.ResponseWriter, r *request) error {
		body := &uploadBody{ReadCloser: r.Body, work: r.work, ctx: r.Context()}
		r.Body = body
		err := h(w, r)
		if err != nil && !body.ended {
			leaveBody(w, r)
		}
		return err
	}
}

// What the answers to requests take, about: the document of a ref, and a list of
// sessions or refs.
const (
	refNeed  = 300
	listNeed = 4 << 20
)

// need is how many bytes the body and the answer of a request may take.
func need(r *request) (n int64) {
	n = min(r.ContentLength, wire.MaxBody)
	if n < 0 { // it is not told
		n = wire.MaxBody
	}
	switch {
	case r.session != nil:
		n += int64(r.session.RefCount) * refNeed
	case r.Method == http.MethodGet:
		n += listNeed
	}
	return n
}

// readBody reads a body within bodyTime: a client that sends it slowly must not hold up
// a stop.
func readBody(w http.ResponseWriter, r *request) error {
	c := http.NewResponseController(w)
	if err := c.SetReadDeadline(time.Now().Add(bodyTime)); err != nil {
		return err
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, wire.MaxBody))
	var tooLarge *http.MaxBytesError
	if err != nil && !errors.As(err, &tooLarge) {
		return wire.Errorf(wire.BadRequest, "the request's body did not come whole: %v", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(b))
	return errors.Join(err, c.SetReadDeadline(time.Time{}), context.Cause(r.Context()))
}
