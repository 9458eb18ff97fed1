// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/fake"
)

// proxyEnv sets one variable of the environment, and none of the others that choose a
// proxy.
func proxyEnv(t *testing.T, name, value string) {
	t.Helper()
	for _, other := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"} {
		t.Setenv(other, "")
		t.Setenv(strings.ToLower(other), "")
	}
	t.Setenv(name, value)
}

// A proxy that wants a login says so once: no repetition helps.
func TestProxyWantsALogin(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Proxy-Authenticate", `Basic realm="corp"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	defer proxy.Close()
	for name, address := range map[string]string{"HTTPS_PROXY": "https://repo.example.org", "HTTP_PROXY": "http://repo.example.org"} {
		proxyEnv(t, name, proxy.URL)
		c, err := Open(Options{Address: address, InsecureHTTP: true})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Info(t.Context())
		if KindOf(err) != Permanent || !strings.Contains(err.Error(), "proxy") || !strings.Contains(err.Error(), "407") || !strings.Contains(hint.Of(err), "user:password") {
			t.Errorf("%s: %v, hint %q", name, err, hint.Of(err))
		}
		if name == "HTTPS_PROXY" && !strings.Contains(err.Error(), "CONNECT repo.example.org:443") {
			t.Errorf("%v", err)
		}
	}
}

// ALL_PROXY is read, with SOCKS, where none of its own is set for the scheme.
func TestAllProxyWithSocks(t *testing.T) {
	socks := newSocks(t)
	for _, scheme := range []string{"socks5", "socks5h", "socks"} {
		for _, name := range []string{"ALL_PROXY", "all_proxy"} {
			proxyEnv(t, name, scheme+"://"+socks.address)
			c, err := Open(Options{Address: "http://repo.example.org:81", InsecureHTTP: true})
			if err != nil {
				t.Fatal(err)
			}
			info, err := c.Info(t.Context())
			if err != nil || info.Version != "behind socks" || socks.asked.Load() != "repo.example.org:81" {
				t.Errorf("%s %s: %+v, %v, asked for %v", name, scheme, info, err, socks.asked.Load())
			}
		}
	}
	t.Setenv("NO_PROXY", "example.org")
	socks.asked.Store("")
	c, err := Open(Options{Address: "http://repo.example.org:81", InsecureHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	if proxy, err := c.transport.http.Proxy(&http.Request{URL: c.base}); proxy != nil || err != nil {
		t.Errorf("NO_PROXY: %v, %v", proxy, err)
	}
}

// What is no proxy that can be spoken to is wrong usage, not a broken link.
func TestProxyOfAnotherKind(t *testing.T) {
	proxyEnv(t, "ALL_PROXY", "socks4://proxy.example.org:1080")
	c, err := Open(Options{Address: "http://repo.example.org", InsecureHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = c.Info(t.Context()); KindOf(err) != Usage || !strings.Contains(err.Error(), "socks4://proxy.example.org") {
		t.Errorf("%v", err)
	}
}

// A socks is a SOCKS 5 proxy to a server in this process, whatever it is asked for.
type socks struct {
	address string
	asked   atomic.Value
}

func newSocks(t *testing.T) *socks {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &socks{address: l.Addr().String()}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

// serve speaks RFC 1928 for one CONNECT to a name, and answers one request behind it.
func (s *socks) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	methods := make([]byte, 2)
	if _, err := io.ReadFull(r, methods); err != nil {
		return
	}
	r.Discard(int(methods[1]))
	conn.Write([]byte{5, 0})
	head := make([]byte, 5)
	if _, err := io.ReadFull(r, head); err != nil || head[3] != 3 {
		return
	}
	rest := make([]byte, int(head[4])+2)
	if _, err := io.ReadFull(r, rest); err != nil {
		return
	}
	host, port := rest[:head[4]], binary.BigEndian.Uint16(rest[head[4]:])
	s.asked.Store(fmt.Sprintf("%s:%d", host, port))
	conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	if _, err := http.ReadRequest(r); err != nil {
		return
	}
	rec := httptest.NewRecorder()
	fake.Reply(rec, 200, wire.Info{Version: "behind socks"})
	rec.Header().Set("Connection", "close")
	rec.Result().Write(conn)
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
