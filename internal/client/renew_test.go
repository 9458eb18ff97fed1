// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

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
			u.client.transport.token.read = func() (string, error) {
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
	for name, read := range map[string]func() (string, error){
		"none": nil, "same": func() (string, error) { return "sesame", nil },
		"gone": func() (string, error) { return "", errors.New("no such file") },
	} {
		u.client.transport.token.read = read
		_, err := u.client.Refs(t.Context())
		if KindOf(err) != Refused || Code(err) != wire.Unauthorized {
			t.Errorf("%s: %v", name, err)
		}
		if name == "gone" && !strings.Contains(err.Error(), "no such file") {
			t.Errorf("%v does not say why the token was not read again", err)
		}
	}
}
