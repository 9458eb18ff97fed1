// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lirios/ostree-upload/test/must"
)

// A tap is the other end of connections, and notes when how much arrived.
type tap struct {
	mu      sync.Mutex
	start   time.Time
	arrived []arrival
	wg      sync.WaitGroup
}

type arrival struct {
	at    time.Duration
	conn  int
	bytes int64
}

// connect makes the nth connection, which the throttle holds.
func (p *tap) connect(th *throttle, conn int) *meteredConn {
	ours, theirs := net.Pipe()
	p.wg.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, err := theirs.Read(b)
			p.mu.Lock()
			p.arrived = append(p.arrived, arrival{time.Since(p.start), conn, int64(n)})
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	return th.meter(ours)
}

// most is the most bytes that arrived within any time so long.
func (p *tap) most(window time.Duration) (most int64) {
	for i := range p.arrived {
		var sum int64
		for _, a := range p.arrived[i:] {
			if a.at >= p.arrived[i].at+window {
				break
			}
			sum += a.bytes
		}
		most = max(most, sum)
	}
	return most
}

// silence is the longest time in which nothing arrived on a connection that had more to
// come.
func (p *tap) silence() (longest time.Duration) {
	last := map[int]time.Duration{}
	for _, a := range p.arrived {
		longest = max(longest, a.at-last[a.conn])
		last[a.conn] = a.at
	}
	return longest
}

// All connections together keep to the rate at each moment, use all of it, and take
// turns.
func TestThrottle(t *testing.T) {
	for _, c := range []struct {
		rate  int64
		conns int
		each  int
	}{{1000, 1, 60_000}, {1000, 16, 4000}, {64 << 10, 16, 64 << 10}, {2e6, 64, 1 << 20}, {300e6, 4, 64 << 20}} {
		synctest.Test(t, func(t *testing.T) {
			tap := &tap{start: time.Now()}
			th := newThrottle(c.rate)
			for i := range c.conns {
				conn := tap.connect(th, i)
				conn.bulk.Store(true)
				tap.wg.Go(func() {
					n, err := conn.Write(make([]byte, c.each))
					if n != c.each || err != nil {
						t.Errorf("%d written, %v", n, err)
					}
					conn.Close()
				})
			}
			tap.wg.Wait()
			took, all := time.Since(tap.start), int64(c.conns*c.each)
			ideal := time.Duration(float64(all) / float64(c.rate) * float64(time.Second))
			if took > ideal || took < ideal*9/10 {
				t.Errorf("%+v: %v, want %v or a little less", c, took, ideal)
			}
			burst := max(256, c.rate/20) + int64(th.piece)
			for _, window := range []time.Duration{100 * time.Millisecond, time.Second, 10 * time.Second} {
				if got, most := tap.most(window), int64(float64(c.rate)*window.Seconds())+burst; got > most {
					t.Errorf("%+v: %d bytes within %v, at most %d", c, got, window, most)
				}
			}
			if got := tap.silence(); got > 5*time.Second {
				t.Errorf("%+v: silent for %v", c, got)
			}
		})
	}
}

// Small requests go before the bodies of uploads, and leave them a quarter; all of them
// keep to the rate.
func TestThrottleOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap := &tap{start: time.Now()}
		th := newThrottle(100_000)
		for i := range 64 {
			conn := tap.connect(th, i)
			conn.bulk.Store(i < 63)
			tap.wg.Go(func() {
				size := 100_000
				if i == 63 {
					size = 750_000
				}
				if _, err := conn.Write(make([]byte, size)); err != nil {
					t.Error(err)
				}
				if took := time.Since(tap.start); i == 63 && (took > 10*time.Second || took < 9*time.Second) {
					t.Errorf("the list took %v, not 10 s", took)
				}
				conn.Close()
			})
		}
		tap.wg.Wait()
		if took := time.Since(tap.start); took < 70*time.Second || took > 72*time.Second {
			t.Errorf("all took %v", took)
		}
		for _, window := range []time.Duration{time.Second, 10 * time.Second} {
			if got, most := tap.most(window), int64(100_000*window.Seconds())+2*5000+int64(th.piece); got > most {
				t.Errorf("%d bytes within %v, at most %d", got, window, most)
			}
		}
		var bulk int64
		for _, a := range tap.arrived {
			if a.conn < 63 && a.at < 10*time.Second {
				bulk += a.bytes
			}
		}
		if bulk < 200_000 {
			t.Errorf("%d bytes of uploads in 10 s", bulk)
		}
	})
}

// A connection that is closed ends what waits to be written on it.
func TestThrottleOfAClosedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap := &tap{start: time.Now()}
		conn := tap.connect(newThrottle(1000), 0)
		conn.bulk.Store(true)
		time.AfterFunc(time.Minute, func() { conn.Close() })
		n, err := conn.Write(make([]byte, 1<<20))
		if !errors.Is(err, net.ErrClosed) || n < 59_000 || n > 61_000 || time.Since(tap.start) != time.Minute {
			t.Errorf("%d, %v after %v", n, err, time.Since(tap.start))
		}
		tap.wg.Wait()
	})
}

// The requests of uploads at a low rate trip no deadline of either side, and what counts
// as gone out is ahead of what has arrived by a buffer of each.
func TestUploadsAtALowRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, uploads, requests, size = 1000, 3, 3, 60_000
		var got, out atomic.Int64
		listener := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		server := &http.Server{ReadHeaderTimeout: 15 * time.Second, Handler: patient(t, &got)}
		var wg sync.WaitGroup
		wg.Go(func() { _ = server.Serve(listener) }) // until Close
		client, err := Open(Options{Address: "http://localhost", Token: strings.Repeat("x", 2000), LimitRate: rate})
		must.OK(t, err)
		client.transport.http.DialContext = listener.dialer(newThrottle(rate))
		start := time.Now()
		var sending sync.WaitGroup
		for range uploads {
			sending.Go(func() {
				for range requests {
					must.OK(t, patch(t, client, size, &out))
				}
			})
		}
		done := make(chan struct{})
		go func() { sending.Wait(); close(done) }()
		for sending := true; sending; {
			select {
			case <-done:
				sending = false
			case <-time.After(7 * time.Second):
			}
			synctest.Wait()
			if ahead := out.Load() - got.Load(); ahead < 0 || ahead > uploads*(8<<10) {
				t.Errorf("after %v: %d bytes went out beyond those that arrived", time.Since(start), ahead)
			}
		}
		const ideal = uploads * requests * size / rate * time.Second
		if took := time.Since(start); took < ideal || took > ideal*105/100 {
			t.Errorf("it took %v, not %v", took, ideal)
		}
		client.Close()
		must.OK(t, server.Close())
		wg.Wait()
	})
}

// patch sends one request of an upload, and counts in out what goes out of it.
func patch(t *testing.T, c *Client, size int, out *atomic.Int64) error {
	req, err := http.NewRequestWithContext(t.Context(), "PATCH", c.url("files/a/b"), &readCounter{bytes.NewReader(make([]byte, size)), out})
	if err != nil {
		return err
	}
	req.ContentLength = int64(size)
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

type readCounter struct {
	io.Reader
	n *atomic.Int64
}

func (r *readCounter) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n.Add(int64(n))
	return n, err
}

// patient answers uploads, and waits a minute for each part of a body, as our server
// does.
func patient(t *testing.T, got *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn := http.NewResponseController(w)
		b := make([]byte, 32<<10)
		for {
			must.OK(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
			n, err := r.Body.Read(b)
			got.Add(int64(n))
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Error(err)
				break
			}
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// A pipeListener takes connections within the process, for which a fake clock can wait.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) dialer(th *throttle) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		l.conns <- theirs
		return th.meter(ours), nil
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{} }
