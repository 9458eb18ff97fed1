// SPDX-License-Identifier: AGPL-3.0-or-later

// Package idtoken verifies ID tokens (OpenID Connect), with which the jobs of a CI push
// without a stored secret.
//
//   - No issuer is asked for anything before an ID token says, though unverified, what an
//     entry of the configuration asks for.
//   - An issuer's keys are read when an ID token needs one that is not known, a few
//     times and then once each readEvery, whoever sends what. Those that were read stay
//     while the issuer cannot be reached.
//   - What was found is remembered for one configuration, and never beyond the end of the
//     ID token.
//
// A Verifier may be used concurrently. Nobody waits for an issuer but who sends an ID
// token with a key that is not known.
package idtoken

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/token"
)

// algorithms are those that an ID token may be signed with: none of them lets somebody
// sign who knows only what the issuer publishes.
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512,
	oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
}

const (
	maxLength   = 16 << 10         // bytes of an ID token; usual ones have some 2,000
	mostTaken   = 1000             // ID tokens that are remembered
	verifyEvery = 10 * time.Minute // how long one is remembered, as its key may be withdrawn
)

// Verifier verifies ID tokens.
type Verifier struct {
	log     *slog.Logger
	now     func() time.Time
	ctx     context.Context // of all that runs
	stop    context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	settings *config.Config // for which the rest holds, as a whole
	issuers  map[string]*issuer
	taken    map[use]taken
}

// use is an ID token that is sent for a repository.
type use struct {
	sum        [sha256.Size]byte
	repository string
}

// taken is an ID token that was verified, and until when that is believed.
type taken struct {
	token *token.Token
	until time.Time
}

// New makes a Verifier. Its Close has to be called.
func New(log *slog.Logger) *Verifier {
	v := &Verifier{log: log, now: time.Now, issuers: map[string]*issuer{}}
	v.ctx, v.stop = context.WithCancel(context.Background())
	return v
}

// Close ends what is under way, and waits for it.
func (v *Verifier) Close() {
	v.mu.Lock()
	v.stop()
	v.mu.Unlock()
	v.running.Wait()
}

// start runs f, unless the Verifier is closed.
func (v *Verifier) start(f func()) (started bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ctx.Err() != nil {
		return false
	}
	v.running.Go(f)
	return true
}

// Is tells whether a token has the form of an ID token: three parts with dots between.
func Is(sent string) bool { return strings.Count(sent, ".") == 2 }

// Token is what who sends an ID token may do by a configuration: that of the first
// entry which it matches. Errors are *RefusedError and *UnavailableError, or that of
// ctx.
func (v *Verifier) Token(ctx context.Context, c *config.Config, sent string) (*token.Token, error) {
	if len(sent) > maxLength {
		return nil, refusedf("the ID token has more than %d bytes", maxLength)
	}
	u := use{sha256.Sum256([]byte(sent)), c.Name}
	if t := v.remembered(c, u); t != nil {
		return t, nil
	}
	if len(c.OIDC) == 0 {
		return nil, &RefusedError{Reason: "this server takes no ID tokens", Next: "on the server: name their issuer under oidc in the configuration, or make a token: ostree-upload gentoken"}
	}
	says, err := read(sent, v.now())
	if err != nil {
		return nil, err
	}
	trust, err := find(c.OIDC, says)
	if err != nil {
		return nil, err
	}
	if err := v.verify(ctx, c, trust.Issuer, sent, says.payload); err != nil {
		return nil, err
	}
	t := trust.Token(says.expires)
	t.SHA256, t.Subject = hex.EncodeToString(u.sum[:]), says.subject()
	v.remember(c, u, t)
	return t, nil
}

// verify refuses an ID token that the issuer has not signed, or signed with another
// content.
func (v *Verifier) verify(ctx context.Context, c *config.Config, issuer, sent string, payload []byte) error {
	keys := &keySet{issuer: v.issuer(c, issuer)}
	verifier := oidc.NewVerifier(issuer, keys, &oidc.Config{SkipClientIDCheck: true, SupportedSigningAlgs: algorithms, Now: v.now})
	_, err := verifier.Verify(ctx, sent)
	switch {
	case keys.err != nil:
		return keys.err
	case err != nil:
		return refusedf("the ID token is not valid: %.200v", err)
	case !bytes.Equal(keys.signed, payload):
		return refusedf("the ID token is not valid: something else of it is signed")
	}
	return nil
}

// of forgets what was found for another configuration. The caller holds v.mu.
func (v *Verifier) of(c *config.Config) {
	if c = c.Whole(); v.settings == c {
		return
	}
	v.settings, v.taken = c, map[use]taken{}
	for url := range v.issuers {
		if !slices.ContainsFunc(c.OIDC, func(t token.Trust) bool { return t.Issuer == url }) {
			delete(v.issuers, url)
		}
	}
}

func (v *Verifier) issuer(c *config.Config, url string) *issuer {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.of(c)
	if v.issuers[url] == nil {
		v.issuers[url] = newIssuer(url, v)
	}
	return v.issuers[url]
}

func (v *Verifier) remembered(c *config.Config, u use) *token.Token {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.of(c)
	found, ok := v.taken[u]
	if !ok || !v.now().Before(found.until) {
		return nil
	}
	return found.token
}

// remember keeps what an ID token may do, at most until it expires. Where there is no room, all are verified
// again.
func (v *Verifier) remember(c *config.Config, u use, t *token.Token) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.of(c)
	if len(v.taken) >= mostTaken {
		clear(v.taken)
	}
	until := v.now().Add(verifyEvery)
	if t.Expires.Before(until) {
		until = t.Expires
	}
	v.taken[u] = taken{t, until}
}
