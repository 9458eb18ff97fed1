// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"context"
	"io"
	"time"

	"golang.org/x/time/rate"
)

// A throttle caps the bytes per second that all connections of a client write together:
// headers, what is sent again and TLS count as well. They take turns by small pieces, so
// that nothing comes in bursts and no connection falls silent for long.
//
// The server reads lists and headers against a deadline for the whole of them, and
// bodies of uploads for as long as they move. So all other requests go before those
// bodies, but leave them a quarter.
type throttle struct {
	all    *rate.Limiter
	asking *rate.Limiter // for what goes before
	turn   chan struct{} // of the one body that waits for all; what goes before is never behind more
	piece  int
}

// newThrottle makes one for so many bytes per second, or returns nil for 0.
func newThrottle(perSecond int64) *throttle {
	if perSecond == 0 {
		return nil
	}
	// A hundredth of a second's; large enough that a fast link is not held up by timers.
	piece := int(min(max(perSecond/100, 256), 16<<10))
	// What a timer that is late misses may be made up for.
	burst := max(piece, int(perSecond/20))
	return &throttle{
		all:    rate.NewLimiter(rate.Limit(perSecond), burst),
		asking: rate.NewLimiter(rate.Limit(perSecond)*3/4, burst),
		turn:   make(chan struct{}, 1),
		piece:  piece,
	}
}

// wait waits until n bytes, at most a piece, may be written.
func (t *throttle) wait(ctx context.Context, n int, bulk bool) error {
	if bulk {
		select {
		case t.turn <- struct{}{}: // in the order in which they came
			defer func() { <-t.turn }()
			return t.all.WaitN(ctx, n)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := t.asking.WaitN(ctx, n); err != nil {
		return err
	}
	t.all.ReserveN(time.Now(), n) // the bodies of uploads wait for it
	return nil
}

// largestBuffer is what is written at once to a connection without a throttle.
const largestBuffer = 64 << 10

// buffer is how much of a body may be read before it is written: what counts as under
// way must not be ahead by many seconds.
func (t *throttle) buffer() int {
	if t == nil {
		return largestBuffer
	}
	return min(max(int(t.all.Limit())/4, 4<<10), largestBuffer)
}

// slowed is body, read by no more than a buffer at a time; net/http reads 32 KiB.
func (t *throttle) slowed(body io.ReadCloser) io.ReadCloser {
	return &slowedBody{body, t.buffer()}
}

type slowedBody struct {
	io.ReadCloser
	most int
}

func (b *slowedBody) Read(p []byte) (int, error) { return b.ReadCloser.Read(p[:min(len(p), b.most)]) }
