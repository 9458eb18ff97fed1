// SPDX-License-Identifier: AGPL-3.0-or-later

package idtoken

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/token"
)

// statement is what an ID token says, which proves nothing.
type statement struct {
	payload []byte
	claims  map[string]any
	expires time.Time
}

// skew is how far the clocks of an issuer and of this machine may be apart where an ID
// token seems to come from the future.
const skew = 5 * time.Minute

// read reads what an ID token says, and refuses what is none or not valid at now.
func read(sent string, now time.Time) (s statement, err error) {
	if s.payload, err = payload(sent); err != nil {
		return s, err
	}
	d := json.NewDecoder(bytes.NewReader(s.payload))
	d.UseNumber()
	if err := d.Decode(&s.claims); err != nil {
		return s, errNone
	}
	if err := checkNames(s.claims); err != nil {
		return s, err
	}
	if s.expires = timeOf(s.claims["exp"]); s.expires.IsZero() {
		return s, refusedf("the ID token has no expiry")
	}
	for _, name := range []string{"iat", "nbf"} {
		if from := timeOf(s.claims[name]); from.After(now.Add(skew)) {
			return s, refusedf("the ID token is valid only from %s on (%s): are the clocks right?", from.Format(time.RFC3339), name)
		}
	}
	return s, checkExpiry(s.expires, now)
}

var errNone = refusedf("the token is not known here, and is no ID token")

// payload is the second of the three parts. go-oidc would take other forms, too.
func payload(sent string) ([]byte, error) {
	parts := strings.Split(sent, ".")
	decoded := make([][]byte, len(parts))
	for i, part := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.DecodeString(part); err != nil {
			return nil, errNone
		}
	}
	if len(decoded) != 3 {
		return nil, errNone
	}
	return decoded[1], nil
}

// checkNames refuses claims such as ISS, which some decoders take for iss.
func checkNames(claims map[string]any) error {
	for name := range claims {
		for _, known := range []string{"iss", "sub", "aud", "exp", "nbf", "iat"} {
			if name != known && strings.EqualFold(name, known) { // as encoding/json compares them
				return refusedf("the ID token has a claim %q, which could be taken for %s", name, known)
			}
		}
	}
	return nil
}

func checkExpiry(expires, now time.Time) error {
	if now.Before(expires) {
		return nil
	}
	return &RefusedError{Reason: "the ID token has expired on " + expires.Format(time.RFC3339), Next: "push with another one; --token-file, --token-command and GitHub's environment are asked again in the middle of a push"}
}

// timeOf is the time of a claim in seconds, zero if it is none.
func timeOf(claim any) time.Time {
	number, _ := claim.(json.Number)
	if seconds, err := number.Float64(); err == nil && seconds > 0 && seconds < 1<<40 {
		return time.Unix(int64(seconds), 0).UTC()
	}
	return time.Time{}
}

// mostSubject bounds what the log repeats: OpenID Connect Core 1.0, section 2, has as
// many characters.
const mostSubject = 255

// subject is whose ID token it is, as the log shows it.
func (s *statement) subject() string {
	subject, _ := s.claims["sub"].(string)
	return strings.ToValidUTF8(subject[:min(len(subject), mostSubject)], "")
}

// mostNear bounds how many entries the log names that an ID token does not match.
const mostNear = 5

// find returns the first entry that an ID token matches.
func find(trusts []token.Trust, says statement) (*token.Trust, error) {
	var near []error // differences from the entries that it comes nearest to
	last := new(token.Mismatch)
	for i := range trusts {
		err := trusts[i].Match(says.claims)
		if err == nil {
			return &trusts[i], nil
		}
		var differs *token.Mismatch
		if !errors.As(err, &differs) || differs.Part < last.Part {
			continue
		}
		if differs.Part > last.Part {
			near = nil
		}
		if last = differs; len(near) < mostNear {
			near = append(near, fmt.Errorf("oidc %s: %w", trusts[i].Name, err))
		}
	}
	return nil, noMatch(last, says.subject(), near)
}
