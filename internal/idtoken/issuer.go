// SPDX-License-Identifier: AGPL-3.0-or-later

package idtoken

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/time/rate"

	"github.com/lirios/ostree-upload/internal/config"
)

// How often and how much is read of an issuer.
const (
	readBurst = 5                // times at once, then
	readEvery = 30 * time.Second // once in each such time
	readTime  = 10 * time.Second // for the whole of it
	tryAfter  = 3 * time.Second  // what failed is worth another try, at the earliest
	mostBytes = 1 << 20          // of each answer
	mostKeys  = 100

	// renewEvery is how old keys may be until they are read again while they are used,
	// and trustedFor how old until a signature that does not fit makes them be read again.
	renewEvery = 15 * time.Minute
	trustedFor = time.Minute
)

// issuer is one issuer and its keys.
type issuer struct {
	url  string
	of   *Verifier
	http *http.Client

	mu      sync.Mutex
	budget  *rate.Limiter
	keys    []jose.JSONWebKey
	since   time.Time // when the keys were read
	reading *reading  // what is under way, or nil
	failing time.Time // since when they cannot be read, or zero
	jwks    string    // where the keys are, "" if not known; of the reading alone
}

// reading is one attempt to read the keys.
type reading struct {
	done chan struct{}
	err  error // once done
}

func newIssuer(url string, of *Verifier) *issuer {
	return &issuer{
		url: url, of: of,
		http:   &http.Client{Transport: newGuard(strings.HasPrefix(url, "http:"))},
		budget: rate.NewLimiter(rate.Every(readEvery), readBurst),
	}
}

// fetch waits until the keys were read. If somebody else has begun with it, own is
// false, and what was read may be older than the question.
func (i *issuer) fetch(ctx context.Context) (own bool, err error) {
	r, own, err := i.begin()
	if err != nil {
		return own, err
	}
	select {
	case <-r.done:
		return own, r.err
	case <-ctx.Done():
		return own, ctx.Err()
	}
}

// begin begins to read the keys, unless that is under way or was done too often.
func (i *issuer) begin() (r *reading, own bool, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.reading != nil {
		return i.reading, false, nil
	}
	now := i.of.now()
	if wait := i.untilNext(now); wait > 0 {
		return nil, true, &UnavailableError{i.url, wait}
	}
	i.budget.AllowN(now, 1)
	r = &reading{done: make(chan struct{})}
	if !i.of.start(func() { i.read(r) }) {
		return nil, true, &UnavailableError{i.url, readEvery}
	}
	i.reading = r
	return r, true, nil
}

// untilNext is how long it is until the keys may be read again.
func (i *issuer) untilNext(now time.Time) time.Duration {
	turn := i.budget.ReserveN(now, 1)
	defer turn.CancelAt(now)
	return turn.DelayFrom(now)
}

// read reads the keys. Those before stay if it fails, and the log has a line when that
// begins and when it ends.
func (i *issuer) read(r *reading) {
	ctx, cancel := context.WithTimeout(i.of.ctx, readTime)
	defer cancel()
	keys, err := i.load(ctx)
	i.mu.Lock()
	defer i.mu.Unlock()
	defer close(r.done)
	i.reading = nil
	now := i.of.now()
	if err != nil {
		r.err = &UnavailableError{i.url, max(tryAfter, i.untilNext(now))}
		if i.failing.IsZero() && i.of.ctx.Err() == nil {
			i.failing = now
			i.of.log.Warn("the keys of an issuer of ID tokens cannot be read", "issuer", i.url, "known", len(i.keys), "err", fmt.Sprintf("%.300v", err))
		}
		return
	}
	if !i.failing.IsZero() {
		i.of.log.Info("the keys of an issuer of ID tokens can be read again", "issuer", i.url, "known", len(keys), "took", now.Sub(i.failing).Round(time.Second))
	}
	i.keys, i.since, i.failing = keys, now, time.Time{}
}

// load asks the issuer where its keys are, if that is not known, and for them.
func (i *issuer) load(ctx context.Context) (keys []jose.JSONWebKey, err error) {
	defer func() {
		if err != nil {
			i.jwks = "" // they may have moved
		}
	}()
	if i.jwks == "" {
		provider, err := oidc.NewProvider(oidc.ClientContext(ctx, i.http), i.url)
		if err != nil {
			return nil, err
		}
		var document struct {
			JWKS string `json:"jwks_uri"`
		}
		if err := provider.Claims(&document); err != nil {
			return nil, err
		}
		i.jwks = document.JWKS
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := i.get(ctx, i.jwks, &set); err != nil {
		return nil, err
	}
	return usable(set.Keys)
}

// olderThan tells whether the keys were read longer ago.
func (i *issuer) olderThan(age time.Duration) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.of.now().Sub(i.since) > age
}

// usable are those of an issuer's keys that verify ID tokens. Others are no fault: an
// issuer may also have keys of kinds that are not known here.
func usable(raw []json.RawMessage) (keys []jose.JSONWebKey, err error) {
	for _, text := range raw {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(text) != nil || !key.Valid() || !key.IsPublic() || key.Use != "" && key.Use != "sig" {
			continue
		}
		if keys = append(keys, key); len(keys) == mostKeys {
			break
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("it has no key that can verify an ID token")
	}
	return keys, nil
}

func (i *issuer) get(ctx context.Context, address string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	res, err := i.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", address, res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		return fmt.Errorf("the answer of %s: %w", address, err)
	}
	return nil
}

// guard bounds what an issuer's answers can cost, and refuses addresses at which others
// could answer in its place.
type guard struct {
	*http.Transport
	plain bool // the issuer is on this machine, without TLS
}

func newGuard(plain bool) *guard {
	return &guard{&http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true,
		TLSHandshakeTimeout: readTime, MaxResponseHeaderBytes: 64 << 10,
	}, plain}
}

// RoundTrip sends a request.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !(g.plain && config.IsLoopback(req.URL.Hostname())) {
		return nil, fmt.Errorf("it names the address %.100s, which is not https", req.URL)
	}
	res, err := g.Transport.RoundTrip(req)
	if err == nil {
		res.Body = http.MaxBytesReader(nil, res.Body, mostBytes)
	}
	return res, err
}
