// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Scopes: what a token may do.
const (
	ScopePush     = "push"     // open sessions and send objects
	ScopeForce    = "force"    // replace a ref by a commit that does not descend from it
	ScopeSessions = "sessions" // see and abort the sessions of other tokens
	ScopeAdmin    = "admin"    // all of these
)

var scopes = []string{ScopePush, ScopeForce, ScopeSessions, ScopeAdmin}

// ErrUnknownToken is what Authenticate says of a token that is not listed.
var ErrUnknownToken = errors.New("the token is not known here")

// ErrExpiredToken is what Authenticate says of a token that is listed, but no
// longer valid.
var ErrExpiredToken = errors.New("the token has expired")

// Token is who may push. The server knows only its hash.
type Token struct {
	Name    string
	SHA256  string    // of the plaintext, 64 lower-case hex digits
	Created time.Time // zero if the file does not say
	Expires time.Time // zero: never
	Refs    *[]string // globs of the refs it may push; nil: all, empty: none
	Scopes  []string
}

// Check reports what of a new token a file could not hold: its name, the globs
// of its refs, its scopes. All faults are joined.
func (t *Token) Check() error {
	errs := []error{checkName(t.Name)}
	if t.Refs != nil {
		for _, g := range *t.Refs {
			errs = append(errs, checkGlob(g))
		}
	}
	for _, s := range t.Scopes {
		errs = append(errs, checkScope(s))
	}
	return errors.Join(errs...)
}

// May reports whether the token has a scope; admin has them all.
func (t *Token) May(scope string) bool {
	return slices.Contains(t.Scopes, scope) || slices.Contains(t.Scopes, ScopeAdmin)
}

// MayPush reports whether the token may push at all, and to this ref.
func (t *Token) MayPush(ref string) bool {
	if !t.May(ScopePush) {
		return false
	}
	return t.Refs == nil || slices.ContainsFunc(*t.Refs, func(g string) bool { return matchGlob(g, ref) })
}

// Expired reports whether the token is no longer valid at now.
func (t *Token) Expired(now time.Time) bool {
	return !t.Expires.IsZero() && !now.Before(t.Expires)
}

// Authenticate finds the token whose plaintext is bearer. It compares hashes,
// all of them and each in constant time, so that the time it takes tells
// nothing about the tokens that there are. Errors are ErrUnknownToken and
// ErrExpiredToken, the latter with the token's name and its date.
func (c *Config) Authenticate(bearer string, now time.Time) (*Token, error) {
	sum := []byte(hashToken(bearer))
	var found *Token
	for i := range c.Tokens {
		if subtle.ConstantTimeCompare(sum, []byte(c.Tokens[i].SHA256)) == 1 {
			found = &c.Tokens[i]
		}
	}
	switch {
	case found == nil:
		return nil, ErrUnknownToken
	case found.Expired(now):
		return nil, fmt.Errorf("token %s: %w on %s", found.Name, ErrExpiredToken, found.Expires.Format(time.RFC3339))
	}
	return found, nil
}

// TokenOptions says what a new token is for.
type TokenOptions struct {
	Name    string        // "": token- and 8 hex digits of its hash
	Refs    []string      // globs; nil: all refs, empty: none
	Scopes  []string      // nil: push
	Expires time.Duration // from now; 0: never
}

// Generate makes a token of 32 random bytes. The plaintext, 64 hex digits, is
// for whoever will use it and is stored nowhere. AddToken checks the rest.
func Generate(opt TokenOptions) (plaintext string, t Token) {
	var secret [32]byte
	rand.Read(secret[:]) // never fails: crypto/rand
	plaintext = hex.EncodeToString(secret[:])

	now := time.Now().UTC().Truncate(time.Second)
	t = Token{Name: opt.Name, SHA256: hashToken(plaintext), Created: now, Scopes: opt.Scopes}
	if t.Name == "" {
		t.Name = "token-" + t.SHA256[:8]
	}
	if opt.Expires > 0 {
		t.Expires = now.Add(opt.Expires)
	}
	if opt.Refs != nil {
		t.Refs = &opt.Refs
	}
	if t.Scopes == nil {
		t.Scopes = []string{ScopePush}
	}
	return plaintext, t
}

func hashToken(plaintext string) string {
	sum := sha256.Sum256([]byte(plaintext))
	return hex.EncodeToString(sum[:])
}

// Names appear in logs, in session documents and on terminals, so they are
// plain words.
var tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$`)

func checkName(name string) error {
	if !tokenName.MatchString(name) {
		return fmt.Errorf("%q is not a token name: up to 64 letters, digits and any of . _ @ + -", name)
	}
	return nil
}

func checkScope(scope string) error {
	if !slices.Contains(scopes, scope) {
		return fmt.Errorf("scope %q is not one of %s", scope, strings.Join(scopes, ", "))
	}
	return nil
}
