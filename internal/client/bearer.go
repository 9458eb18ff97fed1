// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"errors"
	"strings"
	"sync"
	"time"
)

// renewalTime is how long a token may be refused that was good before, until its
// file has the one that replaces it.
const renewalTime = 10 * time.Second

// A bearer is the token, which may be renewed while requests are under way.
type bearer struct {
	mu      sync.Mutex
	token   string
	read    func() (string, error) // reads it again; nil: it does not change
	good    bool                   // the server has taken it, or the one before
	refused time.Time              // since when it is refused, or zero
}

// cleanToken is a token as it is sent.
func cleanToken(token string) (string, error) {
	// From a file or a shell it may come with a line's end or a BOM.
	token = strings.TrimSpace(strings.TrimPrefix(token, "\ufeff"))
	if strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", usageError{errors.New("the token contains a space, a control character or a character that is not ASCII")}
	}
	return token, nil
}

func (b *bearer) now() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.token
}

// taken notes that the server has taken the token.
func (b *bearer) taken() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.good, b.refused = true, time.Time{}
}

// renew reads the token again after one was refused. It reports whether another is
// there now, else whether one may soon be.
func (b *bearer) renew(refused string) (renewed, soon bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read == nil {
		return false, false, nil
	}
	if b.token != refused {
		return true, false, nil // another request has read it
	}
	if b.refused.IsZero() {
		b.refused = time.Now()
	}
	soon = b.good && time.Since(b.refused) < renewalTime
	token, err := b.read()
	if err == nil {
		token, err = cleanToken(token)
	}
	if err != nil || token == refused || token == "" {
		return false, soon, err
	}
	b.token = token
	return true, false, nil
}
