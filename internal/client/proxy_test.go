// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/certs"
	"github.com/lirios/ostree-upload/test/fake"
	"github.com/lirios/ostree-upload/test/outproxy"
)

// proxyEnv sets variables of the environment by name and value, and none of the others
// that choose a proxy.
func proxyEnv(t *testing.T, pairs ...string) {
	t.Helper()
	for _, other := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"} {
		t.Setenv(other, "")
		t.Setenv(strings.ToLower(other), "")
	}
	for i := 0; i < len(pairs); i += 2 {
		t.Setenv(pairs[i], pairs[i+1])
	}
}

const outside = "repo.example.org"

// outsiders are servers of that name, by scheme: their addresses, and the authority of
// the one of HTTPS.
func outsiders(t *testing.T) (at map[string]string, ca string) {
	t.Helper()
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "" || r.Header.Get("Authorization") != "Bearer sesame" {
			t.Errorf("the server got %v", r.Header)
		}
		fake.Reply(w, 200, wire.Info{Version: "outside"})
	})
	plain, secure := httptest.NewServer(answer), httptest.NewUnstartedServer(answer)
	t.Cleanup(plain.Close)
	authority := certs.New(t, filepath.Join(t.TempDir(), "ca.pem"))
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{authority.Issue(t, outside, time.Now().Add(time.Hour))}}
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	return map[string]string{"http": plain.Listener.Addr().String(), "https": secure.Listener.Addr().String()}, authority.File
}

// ask asks the server of an address for its version.
func ask(t *testing.T, address, ca string) (string, error) {
	t.Helper()
	c, err := Open(Options{Address: address, Token: "sesame", CAFile: ca, InsecureHTTP: true})
	if err != nil {
		return "", err
	}
	defer c.Close()
	info, err := c.Info(t.Context())
	return info.Version, err
}

// Each variable leads through its proxy, with a login and without, to servers of HTTP
// and HTTPS.
func TestProxyOfEachVariable(t *testing.T) {
	at, ca := outsiders(t)
	for _, c := range []struct{ variable, proxy, scheme string }{
		{"HTTP_PROXY", "http", "http"}, {"http_proxy", "", "http"}, {"HTTP_PROXY", "socks5", "http"},
		{"HTTPS_PROXY", "http", "https"}, {"https_proxy", "http", "https"}, {"HTTPS_PROXY", "socks5h", "https"},
		{"ALL_PROXY", "http", "http"}, {"ALL_PROXY", "http", "https"}, {"all_proxy", "socks5", "http"},
		{"ALL_PROXY", "socks5h", "https"}, {"ALL_PROXY", "socks", "https"}, {"all_proxy", "SOCKS5", "https"},
	} {
		for _, login := range []string{"", "me:se@cret"} {
			start := outproxy.HTTP
			if strings.HasPrefix(strings.ToLower(c.proxy), "socks") {
				start = outproxy.SOCKS
			}
			proxy := start(t, at[c.scheme], login)
			given := strings.Replace(login, "se@", "se%40", 1)
			if login != "" {
				given += "@"
			}
			if given += proxy.Address; c.proxy != "" {
				given = c.proxy + "://" + given
			}
			proxyEnv(t, c.variable, given)
			version, err := ask(t, c.scheme+"://"+outside, ca)
			port := map[string]string{"http": ":80", "https": ":443"}[c.scheme]
			asked := proxy.Asked()
			if err != nil || version != "outside" || len(asked) != 1 || !slices.Contains([]string{outside, outside + port}, asked[0]) {
				t.Errorf("%s=%s, %s: %q, %v, asked for %q", c.variable, given, c.scheme, version, err, asked)
			}
		}
	}
}

// The scheme's own variable wins over ALL_PROXY, upper case over lower, and NO_PROXY
// over all of them.
func TestWhichProxy(t *testing.T) {
	for _, c := range []struct {
		address string
		env     []string
		want    string
	}{
		{"https://repo.example.org", []string{"HTTPS_PROXY", "a", "ALL_PROXY", "b"}, "proxy http://a (HTTPS_PROXY)"},
		{"https://repo.example.org", []string{"HTTPS_PROXY", "a", "https_proxy", "b"}, "proxy http://a (HTTPS_PROXY)"},
		{"https://repo.example.org", []string{"HTTP_PROXY", "a", "all_proxy", "b"}, "proxy http://b (all_proxy)"},
		{"https://repo.example.org", []string{"HTTP_PROXY", "a"}, ""},
		{"http://repo.example.org", []string{"HTTPS_PROXY", "a"}, ""},
		{"http://repo.example.org", []string{"http_proxy", "socks://me:secret@a:1"}, "proxy socks5://me:xxxxx@a:1 (http_proxy)"},
		{"https://repo.example.org", []string{"HTTPS_PROXY", "a", "NO_PROXY", "example.org"}, ""},
		{"https://repo.example.org", []string{"ALL_PROXY", "a", "no_proxy", "other,.example.org"}, ""},
		{"https://repo.example.org", []string{"ALL_PROXY", "a", "NO_PROXY", "*"}, ""},
		{"https://repo.example.org:8443", []string{"ALL_PROXY", "a", "NO_PROXY", "repo.example.org:443"}, "proxy http://a (ALL_PROXY)"},
		{"https://10.1.2.3", []string{"ALL_PROXY", "a", "NO_PROXY", "10.0.0.0/8"}, ""},
		{"https://localhost:8443", []string{"ALL_PROXY", "a"}, ""},
		{"https://LOCALHOST:8443", []string{"ALL_PROXY", "a"}, ""},
		{"https://127.0.0.1", []string{"ALL_PROXY", "a"}, ""},
		{"unix:/run/x.sock", []string{"ALL_PROXY", "a"}, ""},
	} {
		proxyEnv(t, c.env...)
		client, err := Open(Options{Address: c.address, InsecureHTTP: true})
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		got := ""
		if via := client.transport.via; via != nil {
			got = via.String()
		}
		if got != c.want || (client.transport.http.Proxy != nil) != (c.want != "") {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// What is no proxy that can be spoken to is wrong usage, not a way without one. The
// error names the variable, and tells no password.
func TestProxyOfAnotherKind(t *testing.T) {
	for given, says := range map[string]string{
		"socks4://me:secret@proxy.example.org:1080": "socks4://me:xxxxx@proxy.example.org:1080",
		"ftp://proxy.example.org":                   "ftp://proxy.example.org",
		"http://me:sec%ret@proxy.example.org":       "not the address of a proxy",
		"http://":                                   "not the address of a proxy",
	} {
		proxyEnv(t, "ALL_PROXY", given)
		_, err := ask(t, "https://"+outside, "")
		if KindOf(err) != Usage || !strings.Contains(err.Error(), "ALL_PROXY: ") || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "sec") && strings.Contains(err.Error(), "ret") {
			t.Errorf("%s: %v", given, err)
		}
		proxyEnv(t, "ALL_PROXY", given, "NO_PROXY", outside)
		if _, err := Open(Options{Address: "https://" + outside}); err != nil {
			t.Errorf("%s, not for this host: %v", given, err)
		}
	}
}

// Each way in which a proxy does not let through is named with the proxy and its
// variable, and without its password.
func TestProxyThatDoesNotLetThrough(t *testing.T) {
	at, ca := outsiders(t)
	gone := httptest.NewServer(nil)
	nobody := gone.Listener.Addr().String()
	gone.Close()
	const connection = "connection to https://repo.example.org through "
	for _, c := range []struct {
		name    string
		scheme  string // of the server
		socks   bool
		login   string // in the variable
		deny    int
		kind    Kind
		says    string
		hint    string
		nowhere bool // no proxy is there
	}{
		{name: "login wanted", scheme: "https", kind: Permanent, says: `proxy http://PROXY (HTTPS_PROXY) answers "407 Proxy Authentication Required" to CONNECT repo.example.org:443`,
			hint: "give it in HTTPS_PROXY, as in http://user:password@PROXY"},
		{name: "login wanted, plain", scheme: "http", kind: Permanent, says: `proxy http://PROXY (HTTP_PROXY) answers "407 Proxy Authentication Required" to GET`,
			hint: "give it in HTTP_PROXY, as in http://user:password@PROXY"},
		{name: "wrong login", scheme: "https", login: "me:secret@", kind: Permanent, says: "proxy http://me:xxxxx@PROXY (HTTPS_PROXY) answers",
			hint: "does not take the user and the password in HTTPS_PROXY"},
		{name: "wrong login, plain", scheme: "http", login: "me:secret@", kind: Permanent, says: "proxy http://me:xxxxx@PROXY (HTTP_PROXY) answers",
			hint: "does not take the user and the password in HTTP_PROXY"},
		{name: "socks login wanted", scheme: "https", socks: true, kind: Permanent, says: connection + "proxy socks5://PROXY (HTTPS_PROXY) failed",
			hint: "give it in HTTPS_PROXY, as in socks5://user:password@PROXY"},
		{name: "socks wrong login", scheme: "https", socks: true, login: "me:secret@", kind: Permanent, says: "proxy socks5://me:xxxxx@PROXY",
			hint: "does not take the user and the password in HTTPS_PROXY"},
		{name: "401", scheme: "https", deny: 401, login: "me:secret@", kind: Refused, says: `answers "401 Unauthorized" to CONNECT`, hint: "does not take the user and the password in HTTPS_PROXY"},
		{name: "401, plain", scheme: "http", deny: 401, kind: Refused, says: `answers "401 Unauthorized" to GET`, hint: "give it in HTTP_PROXY"},
		{name: "forbidden", scheme: "https", deny: 403, kind: Temporary, says: `answers "403 Forbidden" to CONNECT`, hint: "does the proxy allow it"},
		{name: "bad gateway", scheme: "https", deny: 502, kind: Temporary, says: `answers "502 Bad Gateway" to CONNECT`, hint: "is the server running"},
		{name: "bad gateway, plain", scheme: "http", deny: 502, kind: Temporary, says: "a proxy in front of", hint: "no HTTP_PROXY"},
		{name: "socks ruleset", scheme: "https", socks: true, deny: 2, kind: Temporary, says: "not allowed by ruleset", hint: "does the proxy allow it"},
		{name: "socks refused", scheme: "https", socks: true, deny: 5, kind: Temporary, says: "connection refused", hint: "is the server running"},
		{name: "no proxy there", scheme: "https", nowhere: true, kind: Temporary, says: "cannot reach proxy http://PROXY (HTTPS_PROXY)", hint: "is the proxy running, and is HTTPS_PROXY right"},
		{name: "no proxy there, plain", scheme: "http", nowhere: true, kind: Temporary, says: "cannot reach proxy http://PROXY (HTTP_PROXY)", hint: "is the proxy running"},
		{name: "no socks there", scheme: "https", socks: true, nowhere: true, login: "me:secret@", kind: Temporary, says: "cannot reach proxy socks5://me:xxxxx@PROXY (HTTPS_PROXY)", hint: "is the proxy running"},
	} {
		t.Run(c.name, func(t *testing.T) {
			start, kind := outproxy.HTTP, "http"
			if c.socks {
				start, kind = outproxy.SOCKS, "socks5"
			}
			login := "me:another"
			if c.deny != 0 {
				login = ""
			}
			proxy := start(t, at[c.scheme], login)
			proxy.Deny(c.deny)
			address := proxy.Address
			if c.nowhere {
				address = nobody
			}
			proxyEnv(t, strings.ToUpper(c.scheme)+"_PROXY", kind+"://"+c.login+address)
			_, err := ask(t, c.scheme+"://"+outside, ca)
			says, next := strings.ReplaceAll(c.says, "PROXY ", address+" "), strings.ReplaceAll(c.hint, "@PROXY", "@"+address)
			says = strings.TrimSuffix(says, "PROXY")
			if err == nil || KindOf(err) != c.kind || !strings.Contains(err.Error(), says) || !strings.Contains(hint.Of(err), next) {
				t.Errorf("kind %d: %v, hint %q", KindOf(err), err, hint.Of(err))
			}
			if err != nil && strings.Contains(err.Error()+hint.Of(err), "secret") {
				t.Errorf("it tells the password: %v, %q", err, hint.Of(err))
			}
		})
	}
}

// Something that swallows "100 Continue" costs a second once, not for each request.
func TestSwallowedContinueIsLearned(t *testing.T) {
	f := fake.Start(t)
	var with, without atomic.Int64
	f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "PATCH" || r.Header.Get("Expect") == "" {
			without.Add(int64(strings.Count(r.Method, "PATCH")))
			return false
		}
		with.Add(1)
		// Read behind net/http's back, which would ask for the body.
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return true
		}
		defer conn.Close()
		direct := r.Clone(r.Context())
		direct.Body = io.NopCloser(io.LimitReader(buf, r.ContentLength))
		rec := httptest.NewRecorder()
		f.Tus(rec, direct)
		rec.Header().Set("Connection", "close")
		rec.Result().Write(conn)
		return true
	}
	want := bigObject()
	u := newTestUploader(t, f.URL)
	if err := uploadObject(t.Context(), u, want); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.Sent(t), want) || with.Load() != 1 || without.Load() != 3 || u.traffic.Retries.Load() != 0 {
		t.Errorf("%d requests with Expect, %d without, %d retries", with.Load(), without.Load(), u.traffic.Retries.Load())
	}
}
