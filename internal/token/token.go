// SPDX-License-Identifier: AGPL-3.0-or-later

// Package token says who may do what: a token has a name, scopes, globs of the
// refs that it may push, and an end.
//
//   - The server knows only the SHA-256 of a token; the plaintext is shown once,
//     to whoever made it.
//   - A session belongs to the name of the token that opened it.
//   - Comparing takes the same time whatever the tokens are.
//
// A Token does not change once it is made and may be shared.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Scopes: what a token may do.
const (
	Push     = "push"     // open sessions and send objects
	Force    = "force"    // replace a ref by a commit that does not descend from it
	Hold     = "hold"     // push, but only what is held until somebody publishes it
	Publish  = "publish"  // publish and reject held sessions for its refs
	Promote  = "promote"  // move refs among commits that are in the repository
	Delete   = "delete"   // delete refs
	Sessions = "sessions" // see and abort the sessions of other tokens
	Metrics  = "metrics"  // read the server's metrics
	Admin    = "admin"    // all of these
)

// Scopes lists them.
var Scopes = []string{Push, Force, Hold, Publish, Promote, Delete, Sessions, Metrics, Admin}

// ErrUnknown is what Find says of a token that is not listed.
var ErrUnknown = errors.New("the token is not known here")

// ExpiredError is what Find says of a token that is listed, but no longer valid.
type ExpiredError struct {
	Name string
	On   time.Time
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("token %s has expired on %s", e.Name, e.On.Format(time.RFC3339))
}

// ReplacedError is what Find says of an earlier secret of a token whose time is over.
type ReplacedError struct {
	Name string
	On   time.Time
}

func (e *ReplacedError) Error() string {
	return fmt.Sprintf("this secret of token %s was replaced, and was good until %s", e.Name, e.On.Format(time.RFC3339))
}

// Token is who may push. The server knows only its hash.
type Token struct {
	Name     string
	SHA256   string    // of the plaintext, 64 lower-case hex digits
	Created  time.Time // zero if the file does not say
	Expires  time.Time // zero: never
	Refs     *[]string // globs of the refs it may push; nil: all, empty: none
	Scopes   []string
	Subject  string   // whose ID token it stands for (Trust); "" if for none
	Previous []Secret // that SHA256 has replaced, and that may still be used for a while

	Repositories *[]string // names of those that it may be used for; nil: all, empty: none
}

// Secret is one that a token had before, and until when it may be used.
type Secret struct {
	SHA256 string
	Until  time.Time
}

// Check reports what of a new token a file could not hold: its name, the globs
// of its refs, its scopes. All faults are joined.
func (t *Token) Check() error {
	errs := []error{CheckName(t.Name)}
	if t.Refs != nil {
		for _, g := range *t.Refs {
			errs = append(errs, CheckGlob(g))
		}
	}
	for _, s := range t.Scopes {
		errs = append(errs, CheckScope(s))
	}
	return errors.Join(errs...)
}

// May reports whether the token has a scope; admin has them all.
func (t *Token) May(scope string) bool {
	return slices.Contains(t.Scopes, scope) || slices.Contains(t.Scopes, Admin)
}

// MayPush reports whether the token may push at all, and to this ref.
func (t *Token) MayPush(ref string) bool {
	return t.sends() && t.covers(ref)
}

// sends reports whether the token may bring objects.
func (t *Token) sends() bool { return t.May(Push) || t.May(Hold) }

// MaySee reports whether the token may do anything at all to this ref.
func (t *Token) MaySee(ref string) bool {
	return (t.sends() || t.May(Promote) || t.May(Delete)) && t.covers(ref)
}

// covers reports whether a ref is one of the token's.
func (t *Token) covers(ref string) bool {
	return t.Refs == nil || slices.ContainsFunc(*t.Refs, func(g string) bool { return MatchGlob(g, ref) })
}

// MayPublish reports whether the token may publish what is held for this ref.
func (t *Token) MayPublish(ref string) bool {
	return t.May(Publish) && (t.Refs == nil || slices.ContainsFunc(*t.Refs, func(g string) bool { return MatchGlob(g, ref) }))
}

// MayUse reports whether the token may be used for a repository, "" for the only one of
// its server.
func (t *Token) MayUse(repository string) bool { return mayUse(t.Repositories, repository) }

func mayUse(names *[]string, repository string) bool {
	return names == nil || slices.Contains(*names, repository)
}

// Over reports whether the secret may no longer be used at now.
func (s *Secret) Over(now time.Time) bool { return !now.Before(s.Until) }

// Expired reports whether the token is no longer valid at now.
func (t *Token) Expired(now time.Time) bool {
	return !t.Expires.IsZero() && !now.Before(t.Expires)
}

// Find finds the token whose plaintext, now or before, is bearer. It compares hashes,
// all of them and each in constant time, so that the time it takes tells nothing
// about the tokens that there are. Errors are ErrUnknown, *ExpiredError and
// *ReplacedError.
func Find(tokens []Token, bearer string, now time.Time) (*Token, error) {
	return FindHash(tokens, Hash(bearer), now)
}

// FindHash is Find for the Hash of a token that somebody has shown before.
func FindHash(tokens []Token, hash string, now time.Time) (*Token, error) {
	sum := []byte(hash)
	is := func(hash string) bool { return subtle.ConstantTimeCompare(sum, []byte(hash)) == 1 }
	var found *Token
	var previous *Secret
	for i := range tokens {
		if is(tokens[i].SHA256) {
			found = &tokens[i]
		}
		for k := range tokens[i].Previous {
			if is(tokens[i].Previous[k].SHA256) {
				found, previous = &tokens[i], &tokens[i].Previous[k]
			}
		}
	}
	switch {
	case found == nil:
		return nil, ErrUnknown
	case found.Expired(now):
		return nil, &ExpiredError{Name: found.Name, On: found.Expires}
	case previous != nil && previous.Over(now):
		return nil, &ReplacedError{Name: found.Name, On: previous.Until}
	}
	return found, nil
}

// Options say what a new token is for.
type Options struct {
	Name    string        // "": token- and 8 hex digits of its hash
	Refs    []string      // globs; nil: all refs, empty: none
	Scopes  []string      // nil: push
	Expires time.Duration // from now; 0: never

	Repositories []string // nil: all
}

// Generate makes a token of 32 random bytes. The plaintext, 64 hex digits, is
// for whoever will use it and is stored nowhere. Check checks the rest.
func Generate(opt Options) (plaintext string, t Token) {
	var secret [32]byte
	rand.Read(secret[:]) // never fails: crypto/rand
	plaintext = hex.EncodeToString(secret[:])

	now := time.Now().UTC().Truncate(time.Second)
	t = Token{Name: opt.Name, SHA256: Hash(plaintext), Created: now, Scopes: opt.Scopes}
	if t.Name == "" {
		t.Name = "token-" + t.SHA256[:8]
	}
	if opt.Expires > 0 {
		t.Expires = now.Add(opt.Expires)
	}
	if opt.Refs != nil {
		t.Refs = &opt.Refs
	}
	if opt.Repositories != nil {
		t.Repositories = &opt.Repositories
	}
	if t.Scopes == nil {
		t.Scopes = []string{Push}
	}
	return plaintext, t
}

// Hash is the form of a token that a server knows: 64 hex digits.
func Hash(plaintext string) string {
	sum := sha256.Sum256([]byte(plaintext))
	return hex.EncodeToString(sum[:])
}

// Names appear in logs, in session documents and on terminals, so they are
// plain words.
var tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$`)

// CheckName reports what a token cannot be called.
func CheckName(name string) error {
	if !tokenName.MatchString(name) {
		return fmt.Errorf("%.100q is not a token name: up to 64 letters, digits and any of . _ @ + -", name)
	}
	return nil
}

// CheckScope reports a scope that there is not.
func CheckScope(scope string) error {
	if !slices.Contains(Scopes, scope) {
		return fmt.Errorf("scope %.100q is not one of %s", scope, strings.Join(Scopes, ", "))
	}
	return nil
}

// Denied says what a token may not do.
type Denied struct {
	Reason string
	Next   string // what to do about it, "" if nothing helps but another token
}

func (d *Denied) Error() string { return d.Reason }

// Moves are what a session is to do to refs.
type Moves struct {
	Force   bool                    // a ref may move to what does not descend from it
	Hold    bool                    // nothing moves until somebody publishes it
	Promote bool                    // no object is brought: the commits are in the repository
	Refs    iter.Seq2[string, bool] // by name, and whether the ref is deleted
}

// CheckSend reports what keeps the token from bringing objects for a session of its own.
// The error is a *Denied.
func (t *Token) CheckSend() error { return t.checkPushScopes(Moves{Hold: true}) }

// CheckPush reports what keeps the token from pushing to refs, by force perhaps, or to be
// held. The error is a *Denied.
func (t *Token) CheckPush(force, hold bool, refs iter.Seq[string]) error {
	if err := t.checkPushScopes(Moves{Force: force, Hold: hold}); err != nil {
		return err
	}
	for ref := range refs {
		if err := t.checkCovers("push", ref); err != nil {
			return err
		}
	}
	return nil
}

// CheckMoves reports what keeps the token from what a session is to do. The error is a
// *Denied.
func (t *Token) CheckMoves(m Moves) error {
	moves, deletes := false, false
	for _, deleted := range m.Refs {
		moves, deletes = moves || !deleted, deletes || deleted
	}
	if deletes && !t.May(Delete) {
		return &Denied{Reason: fmt.Sprintf("token %s may not delete refs", t.Name), Next: "use a token of scope delete"}
	}
	if moves {
		check := t.checkPushScopes
		if m.Promote {
			check = t.checkPromoteScopes
		}
		if err := check(m); err != nil {
			return err
		}
	}
	for ref, deleted := range m.Refs {
		if err := t.checkCovers(verbOf(m.Promote, deleted), ref); err != nil {
			return err
		}
	}
	return nil
}

func verbOf(promote, deleted bool) string {
	switch {
	case deleted:
		return "delete"
	case promote:
		return "move"
	}
	return "push"
}

func (t *Token) checkPushScopes(m Moves) error {
	if !t.sends() {
		return &Denied{Reason: fmt.Sprintf("token %s may not push", t.Name), Next: "use a token of scope push"}
	}
	if !t.May(Push) && !m.Hold {
		return &Denied{Reason: fmt.Sprintf("token %s may push only what is held until somebody publishes it", t.Name), Next: "push with --hold, or with a token of scope push"}
	}
	if m.Force && !t.May(Force) {
		return &Denied{Reason: fmt.Sprintf("token %s may not force", t.Name), Next: "push without --force, or with a token of scope force"}
	}
	return nil
}

// checkPromoteScopes is for moves among commits that are in the repository. Who may push
// can do that as well, by a push that has nothing to send, and needs no more for it here.
func (t *Token) checkPromoteScopes(m Moves) error {
	switch {
	case t.May(Promote), t.May(Push) && (!m.Force || t.May(Force)):
		return nil
	case t.May(Push):
		return &Denied{
			Reason: fmt.Sprintf("token %s may not move a ref to a commit that does not descend from the one it names", t.Name),
			Next:   "use a token of scope promote, or of push and force",
		}
	}
	return &Denied{Reason: fmt.Sprintf("token %s may not move refs", t.Name), Next: "use a token of scope promote"}
}

func (t *Token) checkCovers(verb, ref string) error {
	if t.covers(ref) {
		return nil
	}
	return &Denied{Reason: fmt.Sprintf("token %s may not %s ref %s", t.Name, verb, ref), Next: "use a token that may: its refs are globs in the server's configuration"}
}

// CheckPublish reports what keeps the token from publishing or rejecting a held session
// for some refs. The error is a *Denied.
func (t *Token) CheckPublish(refs iter.Seq[string]) error {
	if !t.May(Publish) {
		return &Denied{Reason: fmt.Sprintf("token %s may not publish what is held", t.Name), Next: "use a token of scope publish"}
	}
	for ref := range refs {
		if !t.MayPublish(ref) {
			return &Denied{Reason: fmt.Sprintf("token %s may not publish what is held for ref %s", t.Name, ref), Next: "use a token that may: its refs are globs in the server's configuration"}
		}
	}
	return nil
}

// Owns tells whether the sessions that a token of a name opened are the token's. What it
// may do with one is for CheckMoves.
func (t *Token) Owns(name string) bool { return t.Name == name }

// Sees tells whether the token may see and abort the sessions that a token of a
// name opened.
func (t *Token) Sees(name string) bool { return t.Name == name || t.May(Sessions) }
