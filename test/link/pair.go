// SPDX-License-Identifier: AGPL-3.0-or-later

package link

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A pair is one connection of a client, and the one to the server behind it.
type pair struct {
	proxy          *Proxy
	client, server *net.TCPConn
	faults         Faults
	black          atomic.Bool

	once sync.Once
	gone chan struct{} // closed by end
}

// end cuts both sides, once.
func (c *pair) end(how How) {
	c.once.Do(func() {
		close(c.gone)
		for _, side := range []*net.TCPConn{c.client, c.server} {
			if side == nil {
				continue
			}
			if how == Reset {
				side.SetLinger(0) // has Close send RST
			}
			side.Close()
		}
	})
}

// run carries both directions until both have ended.
func (c *pair) run() {
	var wg sync.WaitGroup
	wg.Go(func() { c.carry(c.client, c.server, &c.proxy.up, c.deliver) })
	wg.Go(func() { c.carry(c.server, c.client, &c.proxy.down, c.bringBack) })
	wg.Wait()
	c.end(Close)
}

// parcel is bytes and when they reach the other end.
type parcel struct {
	bytes []byte
	due   time.Time
}

// carry moves bytes from one side to the other, until the sender has ended its
// stream, which is passed on, or either side fails, which ends both.
func (c *pair) carry(from, to *net.TCPConn, pace *pacer, write func([]byte) error) {
	queue := make(chan parcel, c.queueLength())
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(queue)
		c.send(from, pace, queue)
	})
	for p := range queue {
		if !c.sleepUntil(p.due) || write(p.bytes) != nil {
			c.end(Reset)
		}
	}
	wg.Wait()
	select {
	case <-c.gone: // the end of the stream would come before a reset
	default:
		to.CloseWrite() // nothing is left to fail: the connection may be gone
	}
}

// queueLength keeps an undelayed link from being a large buffer.
func (c *pair) queueLength() int {
	if c.faults.Delay > 0 {
		return flying
	}
	return 0
}

// send puts what comes from one side on its way, at the link's pace.
func (c *pair) send(from *net.TCPConn, pace *pacer, queue chan<- parcel) {
	for {
		b := make([]byte, chunk)
		n, err := from.Read(b)
		if n > 0 && !c.black.Load() {
			if !c.sleepUntil(pace.reserve(n)) {
				return
			}
			select {
			case queue <- parcel{b[:n], time.Now().Add(c.faults.Delay)}:
			case <-c.gone:
				return
			}
		}
		switch {
		case err == io.EOF && !c.black.Load():
			return
		case err == io.EOF: // the end is swallowed too
			<-c.gone
			return
		case err != nil:
			c.end(Reset)
			return
		}
	}
}

// sleepUntil reports whether the connection still lives then.
func (c *pair) sleepUntil(t time.Time) bool {
	d := time.Until(t)
	if d <= 0 {
		select {
		case <-c.gone:
			return false
		default:
			return true
		}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.gone:
		return false
	}
}

// deliver writes to the server, counts, and cuts where the connection's bytes
// are used up.
func (c *pair) deliver(b []byte) error {
	last := false
	if max := c.faults.CutAfter; max > 0 {
		last = int64(len(b)) >= c.faults.CutAfter
		b = b[:min(int64(len(b)), max)]
		c.faults.CutAfter -= int64(len(b))
	}
	err := c.proxy.hook.deliver(&c.proxy.delivered, func() (int, error) { return c.server.Write(b) })
	if last {
		c.end(c.faults.CutBy)
	}
	return err
}

func (c *pair) bringBack(b []byte) error {
	n, err := c.client.Write(b)
	c.proxy.returned.Add(int64(n))
	return err
}

// A hook is called when so much was delivered.
type hook struct {
	mu sync.Mutex // held while f runs: the link stands still
	at int64
	f  func()
}

func (h *hook) set(n int64, f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at, h.f = n, f
}

// await waits for a hook that runs.
func (h *hook) await() {
	h.mu.Lock()
	defer h.mu.Unlock()
}

// deliver writes, adds to the count, and calls the hook if its time has come.
func (h *hook) deliver(count *atomic.Int64, write func() (int, error)) error {
	h.await()
	n, err := write()
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.f; count.Add(int64(n)) >= h.at && f != nil {
		h.f = nil
		f()
	}
	return err
}

// A pacer hands out the time of one direction of the link.
type pacer struct {
	mu   sync.Mutex
	rate int64
	free time.Time // when all that was reserved has been sent
}

func (p *pacer) set(rate int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = rate
}

// reserve returns when n bytes have been sent, behind all that was reserved
// before.
func (p *pacer) reserve(n int) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.rate <= 0 {
		return now
	}
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(int64(n) * int64(time.Second) / p.rate))
	return p.free
}
