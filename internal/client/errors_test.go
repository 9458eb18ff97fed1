// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"
)

func answered(status int, code string) error {
	return &answerError{problem: &wire.Problem{Type: wire.TypePrefix + code, Status: status, Title: code}}
}

func broke(err error) error { return &networkError{"http://x", nil, err} }

// What a failure means for the next step, wrapped or not.
func TestKindOf(t *testing.T) {
	text := func(status int, s string) error {
		return &answerError{problem: &wire.Problem{Status: status}, text: s}
	}
	for _, c := range []struct {
		name string
		err  error
		kind Kind
	}{
		{"connection broke", broke(io.ErrUnexpectedEOF), Temporary},
		{"stalled", broke(errStalled), Temporary},
		{"wrong certificate", broke(new(security).explain(&tls.CertificateVerificationError{Err: errors.New("unknown authority")})), Permanent},
		{"plain http behind https", broke(http.ErrSchemeMismatch), Permanent},
		{"500", answered(500, wire.Internal), Temporary},
		{"502 of a proxy", text(502, "<html>"), Temporary},
		{"503", text(503, ""), Temporary},
		{"501", text(501, ""), Permanent},
		{"no space", answered(507, wire.InsufficientStorage), NoSpace},
		{"locked", text(423, ""), Temporary},
		{"timeout", answered(408, wire.BadRequest), Temporary},
		{"too many", answered(429, wire.Quota), Temporary},
		{"unauthorized", answered(401, wire.Unauthorized), Refused},
		{"forbidden", answered(403, wire.Forbidden), Refused},
		{"policy", answered(422, wire.Policy), Refused},
		{"too large", answered(413, wire.TooLarge), Permanent},
		{"not found", answered(404, wire.NotFound), Permanent},
		{"session closed", answered(409, wire.SessionClosed), Permanent},
		{"bad request", answered(400, wire.BadRequest), Permanent},
		{"tus interrupted", text(400, "ERR_UPLOAD_INTERRUPTED: upload has been interrupted by another request"), Temporary},
		{"tus unexpected EOF", text(400, `{"detail":"ERR_UNEXPECTED_EOF: server expected to receive more bytes"}`), Temporary},
		{"redirect", text(301, ""), Permanent},
		{"retryable", retryableError{answered(409, "")}, Temporary},
		{"no answer of ours", fmt.Errorf("x: %w", ErrBadAnswer), Temporary},
		{"gave up", &GaveUpError{err: broke(io.EOF)}, Temporary},
		{"ours", errors.New("read object: no such file"), Permanent},
		{"a problem that no server answered", wire.Errorf(wire.Policy, "no"), Permanent},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, err := range []error{c.err, fmt.Errorf("wrapped: %w", c.err)} {
				if kind := KindOf(err); kind != c.kind {
					t.Errorf("kind %d for %v, want %d", kind, err, c.kind)
				}
			}
		})
	}
}
