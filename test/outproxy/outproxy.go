// SPDX-License-Identifier: AGPL-3.0-or-later

// Package outproxy has the proxies of a client's network: HTTP with CONNECT, and
// SOCKS 5. They lead to one target, whatever host they are asked for, so that tests can
// use names that nobody resolves. Only tests import it.
package outproxy

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"slices"
	"sync"
	"testing"
)

// A Proxy runs until the test ends.
type Proxy struct {
	Address string // host:port

	target, login string
	mu            sync.Mutex
	asked         []string
	deny          int
}

// Deny has an HTTP proxy answer everything with a status, 0 for nothing, and a SOCKS
// proxy with a reply (RFC 1928, 6).
func (p *Proxy) Deny(with int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deny = with
}

// Asked are the hosts and ports that it was asked for since the last call.
func (p *Proxy) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := slices.Compact(p.asked)
	p.asked = nil
	return asked
}

func (p *Proxy) ask(host string) (denied int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, host)
	return p.deny
}

// HTTP starts an HTTP proxy to a host:port that wants a login user:password, or none
// for "".
func HTTP(t testing.TB, target, login string) *Proxy {
	t.Helper()
	p := &Proxy{target: target, login: login}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Host = target }}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		denied := p.ask(r.Host)
		wants := "Basic " + base64.StdEncoding.EncodeToString([]byte(login))
		switch {
		case denied != 0:
			http.Error(w, "<html>denied</html>", denied)
		case login != "" && r.Header.Get("Proxy-Authorization") != wants:
			w.Header().Set("Proxy-Authenticate", `Basic realm="out"`)
			http.Error(w, "<html>log in</html>", http.StatusProxyAuthRequired)
		case r.Method == http.MethodConnect:
			p.tunnel(w)
		default:
			pass.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	p.Address = s.Listener.Addr().String()
	return p
}

func (p *Proxy) tunnel(w http.ResponseWriter) {
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err == nil {
		p.join(client, client)
	}
}

// join leads a connection to the target, and lives as long as it.
func (p *Proxy) join(client net.Conn, from io.Reader) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(client, server) // ends with either of the two
		client.Close()
	}()
	_, _ = io.Copy(server, from)
}

// SOCKS starts a SOCKS 5 proxy (RFC 1928 and 1929), as HTTP does.
func SOCKS(t testing.TB, target, login string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &Proxy{Address: l.Addr().String(), target: target, login: login}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				if p.greet(conn, r) == nil {
					p.join(conn, r)
				}
			}()
		}
	}()
	return p
}

var errSOCKS = errors.New("socks")

// greet agrees on a login and takes one CONNECT.
func (p *Proxy) greet(conn net.Conn, r *bufio.Reader) error {
	head, err := take(r, 2)
	if err != nil {
		return err
	}
	methods, err := take(r, int(head[1]))
	if err != nil {
		return err
	}
	method := byte(0)
	if p.login != "" {
		method = 2
	}
	if !slices.Contains(methods, method) {
		_, _ = conn.Write([]byte{5, 0xff})
		return errSOCKS
	}
	if _, err := conn.Write([]byte{5, method}); err != nil {
		return err
	}
	if method == 2 {
		if err := p.authenticate(conn, r); err != nil {
			return err
		}
	}
	return p.connect(conn, r)
}

func (p *Proxy) authenticate(conn net.Conn, r *bufio.Reader) error {
	if _, err := take(r, 1); err != nil {
		return err
	}
	user, err := counted(r)
	if err != nil {
		return err
	}
	password, err := counted(r)
	if err != nil {
		return err
	}
	if string(user)+":"+string(password) != p.login {
		_, _ = conn.Write([]byte{1, 1})
		return errSOCKS
	}
	_, err = conn.Write([]byte{1, 0})
	return err
}

func (p *Proxy) connect(conn net.Conn, r *bufio.Reader) error {
	head, err := take(r, 4)
	if err != nil {
		return err
	}
	if head[3] != 3 { // a name, which clients leave to the proxy
		return errSOCKS
	}
	host, err := counted(r)
	if err != nil {
		return err
	}
	port, err := take(r, 2)
	if err != nil {
		return err
	}
	denied := p.ask(fmt.Sprintf("%s:%d", host, binary.BigEndian.Uint16(port)))
	if _, err = conn.Write([]byte{5, byte(denied), 0, 1, 0, 0, 0, 0, 0, 0}); err == nil && denied != 0 {
		err = errSOCKS
	}
	return err
}

func take(r *bufio.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

func counted(r *bufio.Reader) ([]byte, error) {
	n, err := take(r, 1)
	if err != nil {
		return nil, err
	}
	return take(r, int(n[0]))
}
