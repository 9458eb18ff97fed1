// SPDX-License-Identifier: AGPL-3.0-or-later

// Package idp (identity provider) runs an issuer of ID tokens (OpenID Connect) within a test: what
// GitHub and GitLab are to the jobs of a CI. Only tests import it.
package idp

import (
	"crypto/rand"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/oauth2-proxy/mockoidc"

	"github.com/lirios/ostree-upload/test/must"
)

// Issuer is a running issuer.
type Issuer struct {
	URL string // as it stands in its ID tokens

	t    testing.TB
	oidc *mockoidc.MockOIDC

	mu       sync.Mutex
	fault    http.HandlerFunc
	requests int
	given    int // ID tokens of GitHub
}

// Start starts an issuer, which stops at the end of the test.
func Start(t testing.TB) *Issuer {
	t.Helper()
	m, err := mockoidc.NewServer(nil)
	must.OK(t, err)
	name(t, m.Keypair)
	i := &Issuer{t: t, oidc: m}
	must.OK(t, m.AddMiddleware(i.count))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(t, err)
	must.OK(t, m.Start(l, nil))
	t.Cleanup(func() { must.OK(t, m.Shutdown()) })
	i.URL = m.Issuer()
	return i
}

// count counts each request, and answers it as Fail says.
func (i *Issuer) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		i.requests++
		fault := i.fault
		answer := httptest.NewRecorder()
		if fault == nil {
			next.ServeHTTP(answer, r)
		}
		i.mu.Unlock()
		if fault != nil {
			fault(w, r)
			return
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()) // who asked may be gone
	})
}

// Fail has each request answered by f, nil for as usual.
func (i *Issuer) Fail(f http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fault = f
}

// Down ends each connection without an answer.
func Down(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// Requests counts what the issuer was asked so far.
func (i *Issuer) Requests() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.requests
}

// Given counts the ID tokens that jobs in GitHub Actions got.
func (i *Issuer) Given() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.given
}

// Rotate replaces the issuer's key by another.
func (i *Issuer) Rotate() {
	i.t.Helper()
	pair, err := mockoidc.RandomKeypair(2048)
	must.OK(i.t, err)
	name(i.t, pair)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.oidc.Keypair = pair
}

// name gives a key its ID, which it would else get at its first use, of several at once
// perhaps.
func name(t testing.TB, pair *mockoidc.Keypair) {
	t.Helper()
	_, err := pair.KeyID()
	must.OK(t, err)
}

// Keypair is what the issuer signs with now.
func (i *Issuer) Keypair() *mockoidc.Keypair {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.oidc.Keypair
}

// Claims of an ID token.
type Claims map[string]any

// With are the claims with some changed, or left out if they are nil.
func (c Claims) With(changes Claims) Claims {
	changed := maps.Clone(c)
	maps.Copy(changed, changes)
	maps.DeleteFunc(changed, func(_ string, v any) bool { return v == nil })
	return changed
}

// Job are the claims of the ID token that the issuer gives to a job of main in
// example/os, for an audience, valid for five minutes.
func (i *Issuer) Job(audience string) Claims {
	now := time.Now()
	return Claims{
		"iss": i.URL, "aud": audience, "sub": "repo:example/os:ref:refs/heads/main",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"repository": "example/os", "ref": "refs/heads/main", "ref_protected": "true", "run_attempt": 1, "private": true,
		"groups": []string{"os", "builders"},
	}
}

// Sign makes the ID token of claims.
func (i *Issuer) Sign(claims Claims) string {
	i.t.Helper()
	return i.SignWith(i.Keypair(), claims)
}

// SignWith is Sign with a key that the issuer may have withdrawn.
func (i *Issuer) SignWith(pair *mockoidc.Keypair, claims Claims) string {
	i.t.Helper()
	signed, err := pair.SignJWT(jwt.MapClaims(claims))
	must.OK(i.t, err)
	return signed
}

// GitHub starts the endpoint from which a job in GitHub Actions gets its ID tokens, each
// valid for some time, for whoever has the runner's own token. It returns its URL.
func (i *Issuer) GitHub(runner string, validity time.Duration) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		audience := r.URL.Query().Get("audience")
		if r.Header.Get("Authorization") != "Bearer "+runner || audience == "" || r.URL.Query().Get("api-version") == "" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		claims := i.Job(audience).With(Claims{"exp": time.Now().Add(validity).Unix(), "jti": rand.Text()})
		signed, err := i.Keypair().SignJWT(jwt.MapClaims(claims))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		i.mu.Lock()
		i.given++
		i.mu.Unlock()
		_ = json.NewEncoder(w).Encode(map[string]any{"count": len(signed), "value": signed}) // who asked may be gone
	}))
	i.t.Cleanup(s.Close)
	return s.URL + "/token?api-version=2.0"
}
