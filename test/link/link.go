// SPDX-License-Identifier: AGPL-3.0-or-later

// Package link is a TCP link that tests break: a proxy that counts what it
// delivers, cuts, swallows, refuses, delays and paces. Only tests and tools/bench
// import it.
//
//   - Bytes arrive in order and unchanged, or the connection ends.
//   - Hardly anything waits inside: without a delay a chunk or two for each
//     direction of a connection. What was not delivered when a connection is
//     cut is lost, as on a real link.
//   - Faults hold for connections made after Set; Cut, BlackHole and Refuse
//     act at once.
//
// Sizes are bytes. A Proxy may be used concurrently.
package link

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// chunk is the most that is read at once: the grain of counts and paces.
const chunk = 32 << 10

// flying is how many chunks of a direction may be under way on a delayed link;
// 16 MiB do not limit the throughput of any link that tests want.
const flying = 512

// buffer is the size of the proxy's own socket buffers. Small, so that a sender
// feels the pace of the link; not below a few segments of loopback.
const buffer = 256 << 10

// Faults are what is wrong with a link; the zero value is a perfect one.
type Faults struct {
	Delay    time.Duration // one way, in both directions; does not limit throughput
	Rate     int64         // per second and direction, shared by all connections; 0: no limit
	CutAfter int64         // cut each connection when this much of it was delivered to the server
	CutEvery time.Duration // cut each connection at this age
	CutBy    How           // how CutAfter and CutEvery do it
}

// How a connection ends.
type How int

const (
	Reset How = iota // RST to both ends
	Close            // FIN to both ends
)

// Proxy is one link to one server.
type Proxy struct {
	address string

	mu       sync.Mutex // what follows
	target   string
	faults   Faults
	listener net.Listener // nil while refusing
	closed   bool
	conns    map[*pair]bool

	delivered, returned atomic.Int64
	black               atomic.Bool
	up, down            pacer
	hook                hook
	wg                  sync.WaitGroup
}

// Listen makes a link from a free port of this host to target, a host:port.
func Listen(target string) (*Proxy, error) {
	p := &Proxy{address: "127.0.0.1:0", target: target, conns: map[*pair]bool{}}
	if err := p.Accept(); err != nil {
		return nil, err
	}
	p.address = p.listener.Addr().String()
	return p, nil
}

// Address is the host:port that the client connects to.
func (p *Proxy) Address() string { return p.address }

// Target leads later connections to another host:port.
func (p *Proxy) Target(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = address
}

// Set makes f the faults of connections made from now on.
func (p *Proxy) Set(f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = f
	p.up.set(f.Rate)
	p.down.set(f.Rate)
}

// Delivered is how much went to the server.
func (p *Proxy) Delivered() int64 { return p.delivered.Load() }

// Returned is how much went to the client.
func (p *Proxy) Returned() int64 { return p.returned.Load() }

// At calls f once, when n bytes in all were delivered to the server. Until f
// returns the link delivers nothing more, but for a chunk of each connection
// that was under way. A second At replaces the first; f itself must not call it.
func (p *Proxy) At(n int64, f func()) { p.hook.set(n, f) }

// BlackHole on swallows all that both sides send, on connections that there are
// and on new ones. What was swallowed never arrives, so such a connection stays
// dead after BlackHole off; new ones work again.
func (p *Proxy) BlackHole(on bool) {
	p.black.Store(on)
	for _, c := range p.all() {
		if on {
			c.black.Store(true)
		}
	}
}

// Cut ends all connections.
func (p *Proxy) Cut(how How) {
	for _, c := range p.all() {
		c.end(how)
	}
}

// Refuse has new connections refused; those that there are live on.
func (p *Proxy) Refuse() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		return nil
	}
	err := p.listener.Close()
	p.listener = nil
	return err
}

// Accept ends Refuse, at the same address.
func (p *Proxy) Accept() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil || p.closed {
		return nil
	}
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		return fmt.Errorf("listen at %s again: %w", p.address, err)
	}
	if err := shrink(l.(*net.TCPListener)); err != nil {
		l.Close()
		return err
	}
	p.listener = l
	p.wg.Go(func() { p.serve(l) })
	return nil
}

// shrink bounds the receive buffer of connections before their windows are
// told, which is at their first packet.
func shrink(l *net.TCPListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, buffer)
	})
	if err != nil {
		return err
	}
	return set
}

// Close ends the link and everything on it, and waits for that.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.Refuse()
	p.Cut(Reset)
	p.wg.Wait()
	return err
}

func (p *Proxy) serve(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return // closed
		}
		p.wg.Go(func() { p.join(client.(*net.TCPConn)) })
	}
}

// join leads a connection to the server and lives as long as it.
func (p *Proxy) join(client *net.TCPConn) {
	p.mu.Lock()
	target, faults := p.target, p.faults
	p.mu.Unlock()
	c := &pair{proxy: p, client: client, faults: faults, gone: make(chan struct{})}
	if server, err := net.Dial("tcp", target); err == nil {
		c.server = server.(*net.TCPConn)
		c.server.SetWriteBuffer(buffer)
		c.server.SetReadBuffer(buffer)
	}
	defer p.remove(c)
	if !p.add(c) || c.server == nil {
		c.end(Reset) // nobody is there: as close to a refusal as is left
		return
	}
	if p.black.Load() { // after add, so that BlackHole or this sees it
		c.black.Store(true)
	}
	if faults.CutEvery > 0 {
		timer := time.AfterFunc(faults.CutEvery, func() { c.end(faults.CutBy) })
		defer timer.Stop()
	}
	c.run()
}

func (p *Proxy) add(c *pair) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	return !p.closed
}

func (p *Proxy) remove(c *pair) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *Proxy) all() []*pair {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*pair, 0, len(p.conns))
	for c := range p.conns {
		all = append(all, c)
	}
	return all
}
