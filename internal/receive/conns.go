// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// mostConns bounds the connections of a process that may open many files: each
// takes some memory.
const mostConns = 2000

// conns bounds the connections, so that those who have no token keep nobody out who
// has one. Where one too many comes, one that is not at work for a token is closed
// for it: of the address with the most, the oldest that no token came over, or else
// the oldest that is idle.
type conns struct {
	most int

	mu   sync.Mutex
	open map[net.Conn]*conn
}

// conn is what is known of a connection.
type conn struct {
	address string
	since   time.Time
	known   atomic.Bool // a token came over it
	idle    bool
}

// ownFiles is how many files the server has open itself: 256 folders of the staging,
// and some.
const ownFiles = 320

// newConns makes a conns for as many connections as leave files for the uploads that
// come over them.
func newConns() *conns {
	most := mostConns
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil && files.Cur < ownFiles+2*mostConns {
		most = max(16, (int(files.Cur)-ownFiles)/2)
	}
	return &conns{most: most, open: map[net.Conn]*conn{}}
}

type connKey struct{}

// accept makes room for a connection, and lets its requests find it
// (http.Server.ConnContext, which is called before any state).
func (c *conns) accept(ctx context.Context, n net.Conn) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.admit(n)
	return context.WithValue(ctx, connKey{}, c.open[n])
}

// known notes that a token came over the connection of a request.
func known(r *http.Request) {
	if c, _ := r.Context().Value(connKey{}).(*conn); c != nil {
		c.known.Store(true)
	}
}

// state follows a connection (http.Server.ConnState).
func (c *conns) state(n net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state == http.StateClosed || state == http.StateHijacked {
		delete(c.open, n)
	} else if o := c.open[n]; o != nil {
		o.idle = state == http.StateIdle
	}
}

func (c *conns) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// admit makes room for a connection, or closes it if all others are at work. One
// address may have three quarters of them.
func (c *conns) admit(n net.Conn) {
	address, _, _ := net.SplitHostPort(n.RemoteAddr().String()) // "" is an address as well
	of := map[string]int{}
	for _, o := range c.open {
		of[o.address]++
	}
	c.open[n] = &conn{address: address, since: time.Now()}
	switch {
	case of[address] >= max(1, c.most*3/4):
		c.close(c.spare(n, map[string]int{address: of[address]}))
	case len(c.open) > c.most:
		c.close(c.spare(n, of))
	}
}

// spare is the connection to close, of one of the addresses, or else the newcomer.
func (c *conns) spare(newcomer net.Conn, of map[string]int) net.Conn {
	best := newcomer
	for n, o := range c.open {
		if n == newcomer || of[o.address] == 0 || o.known.Load() && !o.idle {
			continue
		}
		if best == newcomer || c.before(o, c.open[best], of) {
			best = n
		}
	}
	return best
}

// before tells whether a is closed rather than b.
func (c *conns) before(a, b *conn, of map[string]int) bool {
	switch {
	case a.known.Load() != b.known.Load():
		return b.known.Load()
	case of[a.address] != of[b.address]:
		return of[a.address] > of[b.address]
	}
	return a.since.Before(b.since)
}

func (c *conns) close(n net.Conn) {
	delete(c.open, n)
	if t, ok := n.(*tls.Conn); ok {
		n = t.NetConn() // without a farewell, for which it might wait
	}
	_ = n.Close() // whoever serves it sees that it is closed
}
