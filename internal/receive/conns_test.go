// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// crowded serves with room for few connections: /work is a request of a token that
// lasts until release, /token one that is over at once. settled waits until the server has
// noted that the connections of those that were answered are idle.
func crowded(t *testing.T, most int, trusted ...string) (address string, working, release chan struct{}, settled func()) {
	t.Helper()
	c := newConns(func(peer string) bool { return slices.Contains(trusted, peer) })
	c.most = most
	working, release = make(chan struct{}), make(chan struct{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ConnState: c.state, ConnContext: c.accept, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leave, _, ok := c.enter(r, r.Header.Get("From"))
		defer leave()
		if !ok {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		if r.URL.Path != "/anyone" {
			known(r)
		}
		if r.URL.Path == "/work" {
			working <- struct{}{}
			<-release
		}
	})}
	go func() { _ = s.Serve(l) }() // ends with Close
	t.Cleanup(func() { s.Close() })
	return l.Addr().String(), working, release, func() {
		t.Helper()
		must.Wait(t, "all connections are idle", func() bool { return c.atWork() == 0 })
	}
}

// atWork counts the connections over which a token came and that are not idle.
func (c *conns) atWork() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.open {
		if o.known.Load() && !o.idle {
			n++
		}
	}
	return n
}

// dial opens a connection and perhaps asks for a path over it, on behalf of the address
// behind a blank.
func dial(t *testing.T, address, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if path != "" {
		path, from, _ := strings.Cut(path, " ")
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nFrom: %s\r\n\r\n", path, from)
	}
	return c
}

// answered reads the head of an answer, or finds the connection closed.
func answered(c net.Conn) bool {
	b := make([]byte, 12)
	_, err := io.ReadFull(c, b)
	return err == nil && string(b) == "HTTP/1.1 200"
}

// However many connections without a token there are, one more that brings a token
// is answered, and the requests of tokens under way are not cut for it.
func TestCrowdWithoutToken(t *testing.T) {
	address, working, release, _ := crowded(t, 12)
	var busy []net.Conn
	for range 3 {
		busy = append(busy, dial(t, address, "/work"))
		<-working
	}
	for round := range 20 {
		for range 12 {
			dial(t, address, "")
		}
		if !answered(dial(t, address, "/token")) {
			t.Fatalf("round %d: no answer", round)
		}
	}
	close(release)
	for _, c := range busy {
		if !answered(c) {
			t.Error("a request of a token was cut")
		}
	}
}

// Idle connections go before those at work, and when all are at work it is the
// newcomer that goes; one address never has more than its part of them.
func TestCrowdAtWork(t *testing.T) {
	address, working, release, settled := crowded(t, 8)
	idle := dial(t, address, "/token")
	if !answered(idle) {
		t.Fatal("no answer")
	}
	settled()
	var busy []net.Conn
	for range 6 { // three quarters
		busy = append(busy, dial(t, address, "/work"))
		<-working
	}
	if _, err := io.ReadAll(idle); err != nil {
		t.Fatal(err) // it was closed, and ReadAll ends
	}
	if answered(dial(t, address, "/token")) {
		t.Error("one address has more than its part")
	}
	close(release)
	for _, c := range busy {
		if !answered(c) {
			t.Error("a request of a token was cut")
		}
	}
}

// Connections of a trusted proxy may be all that there are; each address behind it has
// its part of the requests under way over them.
func TestCrowdBehindAProxy(t *testing.T) {
	address, working, release, settled := crowded(t, 8, "127.0.0.1")
	var busy []net.Conn
	for range 6 { // three quarters
		busy = append(busy, dial(t, address, "/work one"))
		<-working
	}
	if answered(dial(t, address, "/token one")) {
		t.Error("one address has more than its part")
	}
	busy = append(busy, dial(t, address, "/work two"))
	<-working
	close(release)
	for _, c := range busy {
		if !answered(c) {
			t.Error("a request of a token was cut")
		}
	}
	for range 100 { // once those are over
		settled()
		if !answered(dial(t, address, "/token one")) {
			t.Fatal("no answer")
		}
	}
}
