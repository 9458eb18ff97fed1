// SPDX-License-Identifier: AGPL-3.0-or-later

package idtoken

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/test/idp"
)

// An issuer's keys are read when a new one is needed, and one that it has withdrawn is
// not believed for long.
func TestKeysRotate(t *testing.T) {
	w := newWorld(t)
	old := w.Sign(w.job(idp.Claims{"exp": w.v.now().Add(time.Hour).Unix()}))
	w.taken(old)
	if n := w.Requests(); n != 2 {
		t.Errorf("%d requests, want one for where the keys are and one for them", n)
	}
	w.Rotate()
	w.taken(w.Sign(w.job(nil)))
	w.taken(old) // is remembered
	if n := w.Requests(); n != 3 {
		t.Errorf("%d requests, want one more for the new keys", n)
	}
	w.pass(verifyEvery)
	w.refused(old, "a key that its issuer does not have")
}

// Keys that are in use are read again after a while, although none is unknown: one that
// was stolen and withdrawn goes out of force.
func TestKeysAreRenewed(t *testing.T) {
	w := newWorld(t)
	stolen := w.Keypair()
	sign := func(id int) string { return w.SignWith(stolen, w.job(idp.Claims{"jti": id})) }
	w.taken(sign(1))
	w.Rotate()
	w.pass(renewEvery + time.Second)
	w.taken(sign(2))
	w.v.running.Wait()
	w.refused(sign(3), "does not have")
}

// An issuer that replaces its key and keeps the name of it is asked again, too.
func TestSameNameOfAKey(t *testing.T) {
	w := newWorld(t)
	w.taken(w.Sign(w.job(nil)))
	kid := w.Keypair().Kid
	w.Rotate()
	w.Keypair().Kid = kid
	w.pass(trustedFor + time.Second)
	w.taken(w.Sign(w.job(nil)))
}

// Whoever sends unknown keys has the issuer asked a few times, and once in a while then.
// Those with keys that are known do not notice.
func TestUnknownKeysAreBounded(t *testing.T) {
	w := newWorld(t)
	good := w.Sign(w.job(nil))
	w.taken(good)
	stranger := idp.Start(t)
	asked := w.Requests()
	unknown := func(n int) string {
		stranger.Keypair().Kid = fmt.Sprint("key", n)
		return stranger.Sign(w.job(nil))
	}
	for i := range readBurst - 1 {
		w.refused(unknown(i), "does not have")
	}
	for i := range 1000 {
		w.unavailable(unknown(i))
	}
	if n := w.Requests() - asked; n != readBurst-1 {
		t.Errorf("the issuer was asked %d times", n)
	}
	w.taken(good)
	w.taken(w.Sign(w.job(idp.Claims{"jti": "another"})))
	w.Rotate()
	w.unavailable(w.Sign(w.job(nil)))
	w.pass(readEvery)
	w.taken(w.Sign(w.job(nil)))
}

// An issuer is down for an hour: keys that are known go on working, others are to be
// tried again, and the log tells it once.
func TestIssuerDown(t *testing.T) {
	w := newWorld(t)
	pair := w.Keypair()
	known := func() string { return w.SignWith(pair, w.job(nil)) }
	w.taken(known())
	w.Fail(idp.Down)
	w.Rotate()
	for range 120 {
		w.pass(30 * time.Second)
		w.taken(known())
		w.unavailable(w.Sign(w.job(nil)))
	}
	w.v.running.Wait()
	if n := strings.Count(w.log.String(), "cannot be read"); n != 1 {
		t.Errorf("the log tells it %d times:\n%s", n, w.log.String())
	}
	w.Fail(nil)
	w.pass(readEvery)
	w.taken(w.Sign(w.job(nil)))
	if n := strings.Count(w.log.String(), "can be read again"); n != 1 || !strings.Contains(w.log.String(), "took=1h") {
		t.Errorf("the log:\n%s", w.log.String())
	}
	w.pass(readEvery)
	w.refused(known(), "does not have")
}

// An issuer that was never there is asked once it is.
func TestIssuerComesLater(t *testing.T) {
	w := newWorld(t)
	w.Fail(idp.Down)
	sent := w.Sign(w.job(nil))
	w.unavailable(sent)
	w.Fail(nil)
	w.taken(sent)
}

// What an issuer answers is bounded, in time too, and nobody who needs no new key waits
// for it. Where the keys are must be https, as the issuer.
func TestHostileIssuer(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}
	document := func(issuer, keys string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, issuer, keys)
		}
	}
	for said, answer := range map[string]func(w *world) http.HandlerFunc{
		"request body too large": func(*world) http.HandlerFunc { return endless },
		"404 Not Found":          func(*world) http.HandlerFunc { return http.NotFound },
		"looking for beginning": func(*world) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }
		},
		"did not match":                func(w *world) http.HandlerFunc { return document(w.URL+"/", w.URL) },
		"has no key":                   func(w *world) http.HandlerFunc { return document(w.URL, w.URL+"/userinfo") },
		"address , which is not https": func(w *world) http.HandlerFunc { return document(w.URL, "") },
		"address file:///etc/passwd, which is not https":    func(w *world) http.HandlerFunc { return document(w.URL, "file:///etc/passwd") },
		"address http://192.0.2.1/keys, which is not https": func(w *world) http.HandlerFunc { return document(w.URL, "http://192.0.2.1/keys") },
	} {
		t.Run(said, func(t *testing.T) {
			w := newWorld(t)
			w.Fail(answer(w))
			w.unavailable(w.Sign(w.job(nil)))
			w.v.running.Wait()
			if !strings.Contains(w.log.String(), said) {
				t.Errorf("the log:\n%s", w.log.String())
			}
		})
	}
}

// Whoever waits for a silent issuer does so alone, and can give up.
func TestSilentIssuer(t *testing.T) {
	w := newWorld(t)
	known := w.Sign(w.job(nil))
	w.taken(known)
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	w.Fail(func(rw http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		select {
		case <-answer:
		case <-r.Context().Done():
		}
	})
	w.Rotate()
	ctx, giveUp := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	sent := w.Sign(w.job(nil))
	waiting.Go(func() {
		if _, err := w.v.Token(ctx, w.c, sent); !errors.Is(err, context.Canceled) {
			t.Errorf("gave up with %v", err)
		}
	})
	<-asked
	waiting.Go(func() { w.unavailable(w.Sign(w.job(idp.Claims{"jti": "2"}))) }) // joins the one before
	w.taken(known)
	giveUp()
	close(answer)
	waiting.Wait()
}

// A Verifier that is closed asks nobody.
func TestClosed(t *testing.T) {
	w := newWorld(t)
	w.v.Close()
	w.unavailable(w.Sign(w.job(nil)))
	if w.Requests() != 0 || w.log.Len() != 0 {
		t.Errorf("%d requests, and the log has %q", w.Requests(), w.log.String())
	}
}

// The keys of an issuer that is no longer in the configuration are forgotten.
func TestIssuersAreForgotten(t *testing.T) {
	w := newWorld(t)
	w.taken(w.Sign(w.job(nil)))
	w.v.remembered(&config.Config{}, use{})
	if n := len(w.v.issuers); n != 0 {
		t.Errorf("%d are remembered", n)
	}
}
