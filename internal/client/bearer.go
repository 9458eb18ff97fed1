// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"
)

const (
	// renewalTime is how long a token may be refused that was good before, until its
	// file has the one that replaces it.
	renewalTime = 10 * time.Second
	// early is how long before an ID token expires another one is got, at most.
	early = 30 * time.Second
)

// A bearer is the token, which may be renewed while requests are under way.
type bearer struct {
	source TokenSource // gets it anew; nil: it does not change

	mu      sync.Mutex
	token   string
	renewAt time.Time // when to renew it before it is refused, or zero
	good    bool      // the server has taken it, or the one before
	refused time.Time // since when it is refused, or zero
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

// now is the token to send.
func (b *bearer) now(ctx context.Context) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.source == nil || b.renewAt.IsZero() || time.Now().Before(b.renewAt) {
		return b.token
	}
	b.renewAt = time.Now().Add(renewalTime) // again then, if there is no other one yet
	if token, err := b.get(ctx); err == nil && token != b.token {
		b.set(token)
	}
	return b.token // one that cannot be renewed may still be good, and is refused if not
}

// none tells whether there is no token.
func (b *bearer) none() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.token == ""
}

// taken notes that the server has taken the token.
func (b *bearer) taken() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.good, b.refused = true, time.Time{}
}

// renew gets the token anew after one was refused. It reports whether another is there
// now, else whether one may soon be.
func (b *bearer) renew(ctx context.Context, refused string) (renewed, soon bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.source == nil {
		return false, false, nil
	}
	if b.token != refused {
		return true, false, nil // another request has got it
	}
	if b.refused.IsZero() {
		b.refused = time.Now()
	}
	soon = b.good && time.Since(b.refused) < renewalTime
	token, err := b.get(ctx)
	if err != nil || token == refused {
		return false, soon || b.good && KindOf(err) == Temporary, err
	}
	b.set(token)
	return true, false, nil
}

func (b *bearer) get(ctx context.Context) (string, error) {
	token, err := b.source(ctx)
	if err != nil {
		return "", err
	}
	return cleanToken(token)
}

// set puts another token in the place of the one before. An ID token is renewed before
// it expires, by a clock that may be wrong: what seems to have expired, the server has
// to refuse first.
func (b *bearer) set(token string) {
	b.token, b.renewAt = token, time.Time{}
	now := time.Now()
	if left := expiry(token).Sub(now); left > 0 {
		b.renewAt = now.Add(left - min(early, left/4))
	}
}

// expiry is when a token expires that is an ID token (JWT), or zero. Whether it is a
// good one is for the server to find out.
func expiry(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	var claims struct {
		Expires float64 `json:"exp"`
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(b, &claims) != nil || claims.Expires <= 0 || claims.Expires > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(claims.Expires), 0)
}
