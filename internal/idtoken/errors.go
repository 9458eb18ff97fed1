// SPDX-License-Identifier: AGPL-3.0-or-later

package idtoken

import (
	"errors"
	"fmt"
	"time"

	"github.com/lirios/ostree-upload/internal/token"
)

// RefusedError says why an ID token is not taken, to whoever sent it.
type RefusedError struct {
	Reason string
	Next   string // what to do about it
	Detail string // the reason as the log has it, which also tells what is asked for; "" if there is no more
}

func (e *RefusedError) Error() string { return e.Reason }

func refusedf(format string, args ...any) error {
	return &RefusedError{Reason: fmt.Sprintf(format, args...), Next: "push with an ID token of the CI job, or with a token that `ostree-upload gentoken` has made on the server"}
}

// noMatch is the error of an ID token that matches no entry. Its sender learns what the
// ID token says, and the log also what it would have to say.
func noMatch(last *token.Mismatch, subject string, near []error) error {
	e := &RefusedError{Detail: fmt.Sprintf("an ID token, not verified, says that it is of %q: %v", subject, errors.Join(near...))}
	switch last.Part {
	case token.Issuer:
		e.Reason = fmt.Sprintf("the server takes no ID tokens of the issuer %s", token.Quoted(last.Got))
		e.Next = "on the server: name the issuer under oidc in the configuration, exactly as it is here"
	case token.Audience:
		e.Reason = fmt.Sprintf("the ID token is for the audience %s, which is not the one that the server asks for", token.Quoted(last.Got))
		e.Next = "ask for an ID token with the audience that stands under oidc in the server's configuration: at GitHub by --audience, at GitLab as aud of id_tokens"
	default:
		e.Reason = fmt.Sprintf("the ID token of %q has other claims than the server asks for", subject)
		e.Next = "the server's log says which claim differs from oidc in its configuration"
	}
	return e
}

// UnavailableError says that an ID token cannot be verified now, and when to try again.
type UnavailableError struct {
	Issuer string
	After  time.Duration
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("the ID token cannot be verified now: its key is not known here, and %s cannot be asked for it", e.Issuer)
}
