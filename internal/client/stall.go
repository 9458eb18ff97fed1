// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// defaultStall is how long hardly a byte may move before a request is ended.
// Without it a link that swallows everything would hang for ever.
const defaultStall = 30 * time.Second

// minMoved is the fewest bytes that count as movement: less than any segment of a
// large body, so that the slowest link can go on, and more than an answer brings
// that comes byte by byte. So the stall is also a deadline for small answers.
const minMoved = 512

// errStalled ends a request on whose connection hardly a byte moved for too long.
var errStalled = errors.New("almost no data moved")

type stallKey struct{}

// WithStall sets how long the requests made with the context may stay silent
// before they end; 0 leaves it at 30 seconds.
func WithStall(ctx context.Context, d time.Duration) context.Context {
	if d == 0 {
		return ctx
	}
	return context.WithValue(ctx, stallKey{}, d)
}

// unsentLimit bounds what the kernel buffers before it is on the wire: all of it
// is lost with the connection, and it hides how slow the link is.
const unsentLimit = 128 << 10

var dialer = net.Dialer{
	Timeout: 15 * time.Second,
	// Finds a dead link also while we wait for the server's work.
	KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 4},
	Control:         limitUnsent,
}

// dial opens a connection that keeps to the throttle, which may be nil.
func (t *throttle) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return t.meter(conn), nil
}

func (t *throttle) meter(conn net.Conn) *meteredConn {
	c := &meteredConn{Conn: conn, throttle: t}
	c.closed, c.close = context.WithCancel(context.Background())
	return c
}

// A meteredConn counts the bytes that move, and writes as the throttle lets it.
type meteredConn struct {
	net.Conn
	in, out atomic.Int64

	throttle *throttle   // nil: none
	bulk     atomic.Bool // the request on it has the body of an upload
	closed   context.Context
	close    context.CancelFunc
}

func (c *meteredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in.Add(int64(n))
	return n, err
}

func (c *meteredConn) Write(p []byte) (n int, err error) {
	for {
		part := p[n:]
		if c.throttle != nil {
			part = part[:min(len(part), c.throttle.piece)]
			if c.throttle.wait(c.closed, len(part), c.bulk.Load()) != nil {
				return n, net.ErrClosed
			}
		}
		written, err := c.Conn.Write(part)
		c.out.Add(int64(written))
		if n += written; err != nil || n == len(p) {
			return n, err
		}
	}
}

// Close ends also a Write that waits.
func (c *meteredConn) Close() error {
	c.close()
	return c.Conn.Close()
}

// moved is how far the connection has come: bytes read, and bytes that the
// other side's kernel acknowledged.
func (c *meteredConn) moved() int64 {
	return c.in.Load() + c.out.Load() - unacknowledged(c.Conn)
}

// A stallWatch ends a request on whose connection hardly a byte moves.
type stallWatch struct {
	limit  time.Duration
	bulk   bool // the request has the body of an upload
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	conn  *meteredConn
	moved int64 // at since
	since time.Time
	timer *time.Timer
	done  bool

	stalled bool
}

// watchStall returns the context for a request, bulk if it has the body of an upload;
// end must be called at its end.
func watchStall(ctx context.Context, bulk bool) (context.Context, *stallWatch) {
	limit, ok := ctx.Value(stallKey{}).(time.Duration)
	if !ok {
		limit = defaultStall
	}
	ctx, cancel := context.WithCancelCause(ctx)
	w := &stallWatch{limit: limit, bulk: bulk, cancel: cancel, since: time.Now()}
	w.mu.Lock()
	w.timer = time.AfterFunc(limit/6, w.check)
	w.mu.Unlock()
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: w.gotConn}), w
}

// gotConn notes the connection that the request goes out on.
func (w *stallWatch) gotConn(info httptrace.GotConnInfo) {
	conn := info.Conn
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn, _ = conn.(*meteredConn); w.conn != nil {
		w.moved = w.conn.moved()
		w.conn.bulk.Store(w.bulk)
	}
	w.since = time.Now()
}

func (w *stallWatch) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return
	}
	now := time.Now()
	if w.conn != nil {
		// Less than before is a write that the kernel took in part: something moved.
		if moved := w.conn.moved(); moved >= w.moved+minMoved || moved <= w.moved-minMoved {
			w.moved, w.since = moved, now
		}
	}
	if now.Sub(w.since) >= w.limit {
		w.stalled = true
		w.cancel(errStalled)
		return
	}
	w.timer.Reset(w.limit / 6)
}

// end stops the watch; an err that the watch caused becomes errStalled.
func (w *stallWatch) end(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	w.timer.Stop()
	w.cancel(nil)
	if err != nil && w.stalled {
		return fmt.Errorf("%w for %s", errStalled, w.limit)
	}
	return err
}

// A watchedBody keeps the watch until the answer is read.
type watchedBody struct {
	io.ReadCloser
	watch *stallWatch
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = b.watch.end(err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	_ = b.watch.end(nil)
	return err
}
