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

	"github.com/lirios/ostree-upload/internal/forwarded"
)

// mostConns bounds the connections of a process that may open many files: each
// takes some memory.
const mostConns = 2000

// conns bounds the connections, so that those who have no token keep nobody out who
// has one. Where one too many comes, one that is not at work for a token is closed
// for it: of the address with the most, the oldest that no token came over, or else
// the oldest that is idle. Those of a trusted proxy are for many addresses, so it is
// the requests over them that are counted for each.
type conns struct {
	most    int
	trusted func(peer string) bool

	mu     sync.Mutex
	open   map[net.Conn]*conn
	behind map[string]int // requests under way through trusted proxies, by address
}

// conn is what is known of a connection.
type conn struct {
	of      any // whom it counts for: an address, or itself alone if a trusted proxy is there
	proxied bool
	since   time.Time
	known   atomic.Bool // a token came over it
	idle    bool
}

// ownFiles is how many files the server has open itself: 256 folders of the staging,
// and some.
const ownFiles = 320

// newConns makes a conns for as many connections as leave files for the uploads that
// come over them.
func newConns(trusted func(peer string) bool) *conns {
	most := mostConns
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil && files.Cur < ownFiles+2*mostConns {
		most = max(16, (int(files.Cur)-ownFiles)/2)
	}
	return &conns{most: most, trusted: trusted, open: map[net.Conn]*conn{}, behind: map[string]int{}}
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

// share is how much one address may have of all.
func (c *conns) share() int { return max(1, c.most*3/4) }

// admit makes room for a connection, or closes it if all others are at work.
func (c *conns) admit(n net.Conn) {
	peer := forwarded.Peer(n.RemoteAddr().String())
	added := &conn{of: peer, proxied: c.trusted(peer), since: time.Now()}
	if added.proxied {
		added.of = n
	}
	of := map[any]int{}
	for _, o := range c.open {
		of[o.of]++
	}
	c.open[n] = added
	switch {
	case of[added.of] >= c.share():
		c.close(c.spare(n, map[any]int{added.of: of[added.of]}))
	case len(c.open) > c.most:
		c.close(c.spare(n, of))
	}
}

// enter counts a request under way for the address that it comes from, until leave, if
// it came through a trusted proxy. It is not ok if that address has its share already.
func (c *conns) enter(r *http.Request, address string) (leave func(), n int, ok bool) {
	leave = func() {}
	if over, _ := r.Context().Value(connKey{}).(*conn); over == nil || !over.proxied {
		return leave, 0, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n = c.behind[address]; n >= c.share() {
		return leave, n, false
	}
	c.behind[address]++
	return func() { c.leave(address) }, n + 1, true
}

func (c *conns) leave(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.behind[address]--; c.behind[address] == 0 {
		delete(c.behind, address)
	}
}

// spare is the connection to close, of one of the addresses, or else the newcomer.
func (c *conns) spare(newcomer net.Conn, of map[any]int) net.Conn {
	best := newcomer
	for n, o := range c.open {
		if n == newcomer || of[o.of] == 0 || o.known.Load() && !o.idle {
			continue
		}
		if best == newcomer || c.before(o, c.open[best], of) {
			best = n
		}
	}
	return best
}

// before tells whether a is closed rather than b.
func (c *conns) before(a, b *conn, of map[any]int) bool {
	switch {
	case a.known.Load() != b.known.Load():
		return b.known.Load()
	case of[a.of] != of[b.of]:
		return of[a.of] > of[b.of]
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
