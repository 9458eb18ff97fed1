// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/fake"
)

// guarded is a server behind a proxy that wants a login.
func guarded(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		if !ok || user != "me@home" || password != "secret:ü" {
			w.Header().Set("Server", "gate")
			w.Header().Set("WWW-Authenticate", `Basic realm="gate"`)
			http.Error(w, "<html>401</html>", http.StatusUnauthorized)
			return
		}
		if r.Header.Get(wire.TokenHeader) != "sesame" {
			fake.Refuse(w, wire.Errorf(wire.Unauthorized, "no token was sent"))
			return
		}
		fake.Reply(w, 200, wire.Info{Version: "guarded"})
	}))
	t.Cleanup(s.Close)
	return s
}

// User and password of the address are for the proxy, and the token travels in a header
// of its own. No error and no address tells the password.
func TestLoginInTheAddress(t *testing.T) {
	host := strings.TrimPrefix(guarded(t).URL, "http://")
	for _, c := range []struct {
		login, token string
		kind         Kind
		code         string
		hint         string
	}{
		{"me%40home:secret%3A%C3%BC@", "sesame", 0, "", ""},
		{"me%40home:secret%3A%C3%BC@", "", Refused, wire.Unauthorized, "OSTREE_UPLOAD_TOKEN"},
		{"me%40home:secret%3A%C3%BC@", "wrong", Refused, wire.Unauthorized, ""},
		{"me%40home:secretX@", "sesame", Refused, "", "does not take the user and the password"},
		{"", "sesame", Refused, "", "http://user:password@" + host + "/below"},
	} {
		client, err := New("http://"+c.login+host+"/below/", c.token)
		if err != nil {
			t.Fatal(err)
		}
		info, err := client.Info(t.Context())
		if c.hint == "" && c.code == "" {
			if err != nil || info.Version != "guarded" {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if err == nil || KindOf(err) != c.kind || Code(err) != c.code || !strings.Contains(hint.Of(err), c.hint) {
			t.Errorf("%+v: %v, hint %q", c, err, hint.Of(err))
			continue
		}
		if c.code == "" && !strings.Contains(err.Error(), "a proxy (gate)") {
			t.Errorf("%v", err)
		}
		if said := err.Error() + hint.Of(err) + client.Address() + client.AddressToType(); strings.Contains(said, "secret") {
			t.Errorf("it tells the password: %s", said)
		}
	}
}

// What a command says that is to be given again.
func TestAddressToType(t *testing.T) {
	for given, want := range map[string]string{
		"https://me:secret@host:81/x/": "https://me:PASSWORD@host:81/x",
		"https://me@host":              "https://me@host",
		"https://m%20e:@host":          "https://m%20e:PASSWORD@host",
		"https://host/":                "https://host",
		"unix:/run/x.sock":             "unix:/run/x.sock",
	} {
		c, err := New(given, "")
		if err != nil || c.AddressToType() != want {
			t.Errorf("%s: %v, %v", given, c.AddressToType(), err)
		}
	}
}
