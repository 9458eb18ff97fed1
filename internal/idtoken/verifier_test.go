// SPDX-License-Identifier: AGPL-3.0-or-later

package idtoken

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/test/idp"
	"github.com/lirios/ostree-upload/test/must"
)

const audience = "https://repo.example.org"

// world is an issuer, a Verifier with a clock that a test moves, and a configuration.
type world struct {
	*testing.T
	*idp.Issuer
	v   *Verifier
	log bytes.Buffer
	c   *config.Config

	mu    sync.Mutex
	ahead time.Duration
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, Issuer: idp.Start(t)}
	w.v = New(slog.New(slog.NewTextHandler(&w.log, nil)))
	w.v.now = func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return time.Now().Add(w.ahead)
	}
	t.Cleanup(w.v.Close)
	w.c = &config.Config{OIDC: []token.Trust{{
		Issuer: w.URL, Audience: audience, Name: "gh-os", Scopes: []string{token.Push},
		Claims: map[string][]string{"repository": {"example/os"}, "ref": {"refs/heads/main"}},
	}}}
	return w
}

// pass moves the clock.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead += d
}

// job are the claims of the job that may push, by the Verifier's clock.
func (w *world) job(changes idp.Claims) idp.Claims {
	now := w.v.now()
	return w.Job(audience).With(idp.Claims{"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}).With(changes)
}

func (w *world) try(sent string) (*token.Token, error) { return w.v.Token(w.Context(), w.c, sent) }

func (w *world) taken(sent string) *token.Token {
	w.Helper()
	got, err := w.try(sent)
	must.OK(w.T, err)
	return got
}

// refused wants an ID token to be refused with these words.
func (w *world) refused(sent, words string) {
	w.Helper()
	_, err := w.try(sent)
	if !errors.As(err, new(*RefusedError)) || !strings.Contains(err.Error(), words) {
		w.Errorf("want a refusal with %q: %v", words, err)
	}
}

func (w *world) unavailable(sent string) {
	w.Helper()
	if _, err := w.try(sent); !errors.As(err, new(*UnavailableError)) {
		w.Errorf("want it to be tried again: %v", err)
	}
}

// An ID token is what its entry says, as long as it is valid.
func TestTaken(t *testing.T) {
	w := newWorld(t)
	claims := w.job(nil)
	sent := w.Sign(claims)
	got := w.taken(sent)
	if got.Name != "gh-os" || got.Subject != claims["sub"] || got.SHA256 != token.Hash(sent) ||
		got.Expires.Unix() != claims["exp"] || !got.MayPush("any/ref") || got.May(token.Force) {
		t.Errorf("%+v", got)
	}
}

// What is no sound ID token of an entry's is refused by its claims alone: no issuer is
// asked for that.
func TestRefusedUnasked(t *testing.T) {
	w := newWorld(t)
	now := w.v.now()
	for words, changes := range map[string]idp.Claims{
		"no ID tokens of the issuer":         {"iss": "https://elsewhere.example.org"},
		"issuer \"a\" or \"b\"":              {"iss": []string{"a", "b"}},
		"for the audience \"https://other\"": {"aud": "https://other"},
		"other claims":                       {"ref": "refs/heads/topic"},
		"of \"someone\" has other claims":    {"sub": "someone", "repository": nil},
		"has expired":                        {"exp": now.Add(-time.Second).Unix()},
		"no expiry":                          {"exp": nil},
		"no expiry ":                         {"exp": "tomorrow"},
		"on (iat)":                           {"iat": now.Add(6 * time.Minute).Unix()},
		"on (nbf)":                           {"nbf": now.Add(6 * time.Minute).Unix()},
		"could be taken for aud":             {"aud": "https://other", "AUD": audience},
		"could be taken for iss":             {"i\u017fs": "https://other"},
		"more than 16384 bytes":              {"padding": strings.Repeat("x", 16<<10)},
	} {
		w.refused(w.Sign(w.job(changes)), strings.TrimSpace(words))
	}
	for _, sent := range []string{"..", "a.b.c", "e30.e30.", "{}.{}.{}", "e30." + encode([]byte("[]")) + ".e30"} {
		w.refused(sent, "ID token")
	}
	for _, header := range []string{`{"alg":"none"}`, `{"alg":"HS256"}`, `{"alg":"RS256x"}`, `{}`, `[]`} {
		w.refused(encode([]byte(header))+"."+encode(text(t, w.job(nil)))+".", "not valid")
	}
	if n := w.Requests(); n != 0 {
		t.Errorf("the issuer was asked %d times", n)
	}
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func text(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	must.OK(t, err)
	return b
}

// The issuer's public key is no secret with which to sign (HS256), in whatever form.
func TestPublicKeyIsNoSecret(t *testing.T) {
	w := newWorld(t)
	w.taken(w.Sign(w.job(nil)))
	der, err := x509.MarshalPKIXPublicKey(w.Keypair().PublicKey)
	must.OK(t, err)
	jwks, err := w.Keypair().JWKS()
	must.OK(t, err)
	for _, secret := range [][]byte{der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), jwks, w.Keypair().PublicKey.N.Bytes()} {
		head := encode(text(t, map[string]string{"alg": "HS256", "kid": w.Keypair().Kid}))
		signed := head + "." + encode(text(t, w.job(nil)))
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(signed))
		w.refused(signed+"."+encode(mac.Sum(nil)), "not valid")
	}
}

// A signature that is not the issuer's is refused, and so is what was changed after it
// was signed.
func TestForged(t *testing.T) {
	w := newWorld(t)
	sound := w.Sign(w.job(nil))
	w.taken(sound)
	asked := w.Requests()
	parts := strings.Split(sound, ".")
	changed := encode(text(t, w.job(idp.Claims{"actor": "mallory"})))
	w.refused(parts[0]+"."+changed+"."+parts[2], "signature is not right")
	w.refused(parts[0]+"."+parts[1]+".", "not right")
	w.refused(sound+"AA", "not right")
	stranger := idp.Start(t) // has the same kid
	stranger.Rotate()
	stranger.Keypair().Kid = w.Keypair().Kid
	w.refused(stranger.Sign(w.job(nil)), "not right")
	if w.Requests() != asked {
		t.Error("the issuer was asked again")
	}
}

// Claims may be texts, numbers, true or false, or lists of these; what is asked for may
// be globs, or several. The first entry that matches counts.
func TestClaims(t *testing.T) {
	w := newWorld(t)
	sent := w.Sign(w.job(idp.Claims{"aud": []string{"https://other", audience}, "nested": []any{[]string{"x"}, nil}, "object": map[string]string{"a": "b"}}))
	for _, tt := range []struct {
		claims map[string][]string
		want   bool
	}{
		{map[string][]string{"repository": {"example/*"}, "ref": {"refs/heads/*"}}, true},
		{map[string][]string{"repository": {"**"}}, true},
		{map[string][]string{"repository": {"*"}}, false},
		{map[string][]string{"sub": {"repo:example/os:ref:refs/heads/*"}}, true},
		{map[string][]string{"ref": {"refs/tags/*", "refs/heads/main"}}, true},
		{map[string][]string{"ref": {"refs/heads/mai"}}, false},
		{map[string][]string{"ref": {"REFS/heads/main"}}, false},
		{map[string][]string{"ref_protected": {"true"}, "private": {"true"}, "run_attempt": {"1"}}, true},
		{map[string][]string{"private": {"false"}}, false},
		{map[string][]string{"groups": {"builders"}}, true},
		{map[string][]string{"groups": {"osbuilders"}}, false},
		{map[string][]string{"nested": {"**"}}, false},
		{map[string][]string{"object": {"**"}}, false},
		{map[string][]string{"absent": {"**"}}, false},
		{map[string][]string{"aud": {"https://other"}}, true},
	} {
		c := *w.c
		c.OIDC = []token.Trust{{Issuer: w.URL, Audience: audience, Claims: tt.claims, Name: "first"}}
		w.c = &c
		if _, err := w.try(sent); (err == nil) != tt.want {
			t.Errorf("%v: %v", tt.claims, err)
		}
	}
	both := *w.c
	both.OIDC = append([]token.Trust{
		{Issuer: w.URL, Audience: audience, Claims: map[string][]string{"ref": {"refs/tags/*"}}, Name: "tags"},
		{Issuer: w.URL, Audience: audience, Claims: map[string][]string{"ref": {"**"}}, Name: "all"},
	}, both.OIDC...)
	w.c = &both
	if got := w.taken(sent); got.Name != "all" {
		t.Errorf("%+v", got)
	}
}

// The refusal of claims says to the sender what the ID token says, and to the log also
// what is asked for.
func TestDetail(t *testing.T) {
	w := newWorld(t)
	_, err := w.try(w.Sign(w.job(idp.Claims{"ref": "refs/heads/topic\n\x1b[31m"})))
	var refused *RefusedError
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	if strings.Contains(refused.Reason+refused.Next, "refs/heads/main\"") && strings.Contains(refused.Reason, "gh-os") {
		t.Errorf("%q %q tell what is asked for", refused.Reason, refused.Next)
	}
	if want := `oidc gh-os: its claim ref is "refs/heads/topic\n\x1b[31m", and is to be "refs/heads/main"`; !strings.Contains(refused.Detail, want) {
		t.Errorf("%s\nlacks %s", refused.Detail, want)
	}
}

// An ID token is taken while it is valid, by a clock that may be some minutes behind the
// issuer's, and not longer, although it was verified before.
func TestExpires(t *testing.T) {
	w := newWorld(t)
	ahead := w.v.now().Add(4 * time.Minute)
	sent := w.Sign(w.job(idp.Claims{"iat": ahead.Unix(), "nbf": ahead.Unix(), "exp": ahead.Add(5 * time.Minute).Unix()}))
	w.taken(sent)
	w.pass(8 * time.Minute)
	w.taken(sent)
	w.pass(time.Minute)
	w.refused(sent, "has expired on")
}

// A change of the configuration counts at once for what was verified before.
func TestConfigurationChanges(t *testing.T) {
	w := newWorld(t)
	sent := w.Sign(w.job(nil))
	w.taken(sent)
	change := func(f func(*token.Trust)) {
		c := *w.c
		c.OIDC = []token.Trust{c.OIDC[0]}
		f(&c.OIDC[0])
		w.c = &c
	}
	change(func(t *token.Trust) { t.Refs, t.Name = &[]string{}, "other" })
	if got := w.taken(sent); got.Name != "other" || got.MayPush("x") {
		t.Errorf("%+v", got)
	}
	change(func(t *token.Trust) { t.Claims = map[string][]string{"ref": {"refs/heads/release"}} })
	w.refused(sent, "other claims")
	change(func(t *token.Trust) { t.Claims, t.Audience = nil, "https://other" })
	w.refused(sent, "for the audience")
	w.c = &config.Config{}
	w.refused(sent, "takes no ID tokens")
}

// What was verified is not verified again for each request, nor for ever.
func TestRemembered(t *testing.T) {
	w := newWorld(t)
	sent := w.Sign(w.job(idp.Claims{"exp": w.v.now().Add(time.Hour).Unix()}))
	first := w.taken(sent)
	if w.taken(sent) != first {
		t.Error("verified again")
	}
	w.pass(verifyEvery)
	if w.taken(sent) == first {
		t.Error("believed for ever")
	}
	for i := range mostTaken + 10 {
		w.v.remember(w.c, use{sum: sha256.Sum256(fmt.Append(nil, i))}, first)
	}
	if n := len(w.v.taken); n > mostTaken {
		t.Errorf("%d are remembered", n)
	}
}

// Keys of other kinds than RSA work; keys that are no keys, private or for encryption are
// passed over.
func TestKinds(t *testing.T) {
	w := newWorld(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must.OK(t, err)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "e"}}, nil)
	must.OK(t, err)
	jws, err := signer.Sign(text(t, w.job(nil)))
	must.OK(t, err)
	sent, err := jws.CompactSerialize()
	must.OK(t, err)
	set := []any{
		"no key", map[string]string{"kty": "OKP", "crv": "Ed448", "x": "AAAA", "kid": "e"},
		jose.JSONWebKey{Key: key, KeyID: "e"}, jose.JSONWebKey{Key: []byte("secret"), KeyID: "e"},
		jose.JSONWebKey{Key: key.Public(), KeyID: "e", Use: "enc"}, jose.JSONWebKey{Key: key.Public(), KeyID: "e", Algorithm: "ES512"},
	}
	serve := func() {
		w.Fail(func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "openid-configuration") {
				fmt.Fprintf(rw, `{"issuer":%q,"jwks_uri":%q}`, w.URL, w.URL+"/.well-known/jwks.json")
				return
			}
			_, _ = rw.Write(text(t, map[string]any{"keys": set}))
		})
	}
	serve()
	w.refused(sent, "does not have")
	set = append(set, jose.JSONWebKey{Key: key.Public(), KeyID: "e"})
	serve()
	w.taken(sent)
}

// FuzzRead pins that what a stranger sends is refused or says when it expires, and that
// nothing is taken for signed that is not what was looked at.
func FuzzRead(f *testing.F) {
	claims := `{"iss":"i","aud":["a"],"sub":"\u0000\ud800","exp":4e9,"iat":1,"nbf":1.5}`
	f.Add("e30." + encode([]byte(claims)) + ".e30")
	f.Add("e30." + encode([]byte(`{"EXP":1,"exp":9e99}`)) + ".")
	f.Add("{}.[].\"\"")
	trust := token.Trust{Issuer: "i", Audience: "a", Claims: map[string][]string{"sub": {"**"}}, Name: "n"}
	now := time.Unix(1e9, 0)
	f.Fuzz(func(t *testing.T, sent string) {
		says, err := read(sent, now)
		if err != nil {
			if !errors.As(err, new(*RefusedError)) {
				t.Errorf("%v", err)
			}
			return
		}
		if !says.expires.After(now) || !utf8.ValidString(says.subject()) || len(says.subject()) > mostSubject {
			t.Errorf("%+v", says)
		}
		if part := strings.Split(sent, ".")[1]; string(says.payload) != must64(t, part) {
			t.Errorf("it looked at %q", says.payload)
		}
		if _, err := find([]token.Trust{trust}, says); err == nil && (says.claims["iss"] != "i" || says.claims["sub"] == nil) {
			t.Errorf("%+v matches", says.claims)
		}
	})
}

func must64(t *testing.T, part string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(part)
	must.OK(t, err)
	return string(b)
}
