// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/fake"
)

// holders has f take one token only, which may change.
func holders(f *fake.Server, token *atomic.Value) {
	f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		known := r.Header.Get("Authorization") == "Bearer "+token.Load().(string)
		if !known {
			fake.Refuse(w, wire.Errorf(wire.Unauthorized, "the token has expired"))
		}
		return !known
	}
}

// A token that is replaced while an upload runs is read again: it may be in its file
// at once, or a moment after the server has refused the old one.
func TestTokenIsRenewed(t *testing.T) {
	for name, late := range map[string]int32{"at once": 0, "a moment later": 3} {
		t.Run(name, func(t *testing.T) {
			f := fake.Start(t)
			var token atomic.Value
			token.Store("sesame")
			holders(f, &token)
			old := f.Fault
			change := fake.Once("PATCH", 2, func(w http.ResponseWriter, r *http.Request) {
				token.Store("renewed")
				old(w, r)
			})
			f.Fault = func(w http.ResponseWriter, r *http.Request) bool { return change(w, r) || old(w, r) }

			u := newTestUploader(t, f.URL)
			var reads atomic.Int32
			u.client.transport.token.source = func(context.Context) (string, error) {
				switch n := reads.Add(1); {
				case n <= late && n%2 == 0:
					return "", errors.New("no such file") // it is being replaced
				case n <= late:
					return "sesame\n", nil
				}
				return "renewed\n", nil
			}
			want := bigObject()
			if err := uploadObject(t.Context(), u, want); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(f.Sent(t), want) || reads.Load() != late+1 || u.traffic.Retries.Load() != int64(late) {
				t.Errorf("read %d times, %d retries", reads.Load(), u.traffic.Retries.Load())
			}
		})
	}
}

// A token that the server never took is refused at once, and so is one that cannot
// be read again.
func TestRefusedTokenIsNotWaitedFor(t *testing.T) {
	f := fake.Start(t)
	var token atomic.Value
	token.Store("another")
	holders(f, &token)
	u := newTestUploader(t, f.URL)
	for name, source := range map[string]TokenSource{
		"none": nil, "same": func(context.Context) (string, error) { return "sesame", nil },
		"gone": func(context.Context) (string, error) { return "", errors.New("no such file") },
	} {
		u.client.transport.token.source = source
		_, err := u.client.Refs(t.Context())
		if KindOf(err) != Refused || Code(err) != wire.Unauthorized {
			t.Errorf("%s: %v", name, err)
		}
		if name == "gone" && !strings.Contains(err.Error(), "no such file") {
			t.Errorf("%v does not say why the token was not read again", err)
		}
	}
}

// idToken makes a token that says when it expires.
func idToken(expires any) string {
	claims := fmt.Sprintf(`{"sub":"x","exp":%v}`, expires)
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".sig"
}

// An ID token is renewed before it expires, and one that cannot be renewed is sent on:
// the server decides.
func TestIDTokenIsRenewedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gotten int
		source := func(context.Context) (string, error) {
			if gotten++; gotten == 2 {
				return "", errors.New("not now")
			}
			return idToken(time.Now().Add(5 * time.Minute).Unix()), nil
		}
		first, _ := source(t.Context())
		b := bearer{source: source}
		b.set(first)
		ask := func(after time.Duration, renewed bool, gets int) {
			t.Helper()
			time.Sleep(after)
			if got := b.now(t.Context()); (got != first) != renewed || gotten != gets {
				t.Errorf("asked %d times, want %d; another token: %v", gotten, gets, got != first)
			}
		}
		ask(0, false, 1)
		ask(4*time.Minute+29*time.Second, false, 1)
		ask(time.Second, false, 2) // it fails
		ask(time.Second, false, 2)
		ask(renewalTime, true, 3)
		ask(4*time.Minute, true, 3)
		ask(30*time.Second, true, 4)
	})
}

// A token that does not say when it expires, or that has expired by this machine's clock,
// is renewed only when the server refuses it.
func TestNotRenewedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, token := range []string{
			"sesame", "", "a.b", "a.b.c", "..", idToken(`"soon"`), idToken(-1), idToken("1e300"), idToken(time.Now().Add(-time.Hour).Unix()),
		} {
			b := bearer{source: func(context.Context) (string, error) { return "another", nil }}
			b.set(token)
			time.Sleep(24 * time.Hour)
			if got := b.now(t.Context()); got != token {
				t.Errorf("%q is renewed", token)
			}
		}
		b := bearer{} // of a flag
		b.set(idToken(time.Now().Add(time.Minute).Unix()))
		time.Sleep(time.Hour)
		if b.now(t.Context()) == "" {
			t.Error("it is gone")
		}
	})
}

// A source that is down for a while is waited for, if the server has taken a token of its
// before.
func TestSourceIsDown(t *testing.T) {
	for _, good := range []bool{true, false} {
		f := fake.Start(t)
		var token atomic.Value
		token.Store("another")
		holders(f, &token)
		u := newTestUploader(t, f.URL)
		u.client.transport.token.good = good
		u.client.transport.token.source = func(context.Context) (string, error) { return "", retryableError{errors.New("no answer")} }
		u.client.transport.token.refused = time.Now().Add(-time.Hour)
		if _, err := u.client.Refs(t.Context()); (KindOf(err) == Temporary) != good || !strings.Contains(err.Error(), "no answer") {
			t.Errorf("taken before: %v; %v", good, err)
		}
	}
}
