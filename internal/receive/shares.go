// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/lirios/ostree-upload/internal/wire"
)

// What the requests of one token may have.
const (
	// maxRequests is how many are under way at once: some for each session that it
	// may have open.
	maxRequests = 512
	// maxHeld is how many bytes of bodies and answers the server holds for them.
	maxHeld = 64 << 20
)

// While other tokens have requests, the work on those of one may take workBurst at
// once, and then one of workParts of the processors' time; a server of one core counts
// as one of two.
const (
	workBurst = 2 * time.Second
	workParts = 8
)

// What work counts for at least: that on a request beside its handler, and that on
// each MiB of an upload's body.
const (
	requestWork = 200 * time.Microsecond
	mibWork     = time.Millisecond
	leftWork    = 2 * time.Millisecond // and that on a body that nobody reads: it costs the connection
)

// presence is how long a token counts as one that others leave room for after its last
// request that was no mere look, and lookAgain is after which time those that wait look
// whether it is gone.
const (
	presence  = time.Second
	lookAgain = 50 * time.Millisecond
)

// shares divide what the server does for requests between tokens, so that one that asks
// all the time, over many connections, leaves enough for the others. Requests without a
// token have a share together, and no other token leaves room for them.
type shares struct {
	cores int
	now   func() time.Time

	mu     sync.Mutex
	tokens map[string]*share // by name, "" for none
}

// share is what one token has.
type share struct {
	places chan struct{}       // one is taken by each request that is worked on
	held   *semaphore.Weighted // bytes of bodies and answers

	requests int       // under way
	last     time.Time // when one ended
	paid     time.Time // when the work so far is within its part
}

func newShares(cores int) *shares {
	return &shares{cores: max(2, cores), now: time.Now, tokens: make(map[string]*share)}
}

// work is the work on one request. It has a place while the server works on it, and
// none while it waits for the client or for something else. Its methods are called by
// one goroutine at a time.
type work struct {
	*shares
	share *share
	began time.Time // when it got its place; zero while it has none
	looks bool      // it only looks, as somebody does who watches
}

// begin waits until it is the turn of a request. The caller ends the work.
func (s *shares) begin(ctx context.Context, token string) (*work, error) {
	share, err := s.admit(token)
	if err != nil {
		return nil, err
	}
	w := &work{shares: s, share: share}
	if err := w.resume(ctx); err != nil {
		w.end()
		return nil, err
	}
	return w, nil
}

// admit counts a request, or refuses it.
func (s *shares) admit(token string) (*share, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tokens[token]
	if t == nil {
		t = &share{places: make(chan struct{}, s.cores), held: semaphore.NewWeighted(maxHeld)}
		s.tokens[token] = t
	}
	if t.requests >= maxRequests {
		return nil, tooMany(token)
	}
	t.requests++
	return t, nil
}

func tooMany(token string) error {
	whose := "without a token that is known"
	if token != "" {
		whose = "of token " + token
	}
	return wire.Errorf(wire.Quota, "%d requests %s are under way, and no more may be at once", maxRequests, whose).
		WithHint("wait until some of them are answered, and send again")
}

// resume waits for a place, and until the token's work is within its part.
func (w *work) resume(ctx context.Context) error {
	select {
	case w.share.places <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := w.pay(ctx); err != nil {
		<-w.share.places
		return err
	}
	w.began = w.now()
	return nil
}

// pay waits until the token's work is within its part, or nobody else is there.
func (w *work) pay(ctx context.Context) error {
	for {
		owed := w.owed(w.share)
		if owed <= 0 {
			return nil
		}
		if err := sleep(ctx, min(owed, lookAgain)); err != nil {
			return err
		}
	}
}

// sleep waits for d, or until ctx ends, which is the error then.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// owed is how long a token has to wait, as others are there.
func (s *shares) owed(t *share) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if owed := t.paid.Sub(s.now()); owed > 0 && !s.alone(t) {
		return owed
	}
	return 0
}

// alone tells whether no other token has requests, or had one just now.
func (s *shares) alone(t *share) bool {
	now := s.now()
	for name, other := range s.tokens {
		if other != t && name != "" && (other.requests > 0 || now.Sub(other.last) < presence) {
			return false
		}
	}
	return true
}

// leave gives the place back, if there is one.
func (w *work) leave() {
	if w.began.IsZero() {
		return
	}
	w.charge(w.share, w.now().Sub(w.began))
	w.began = time.Time{}
	<-w.share.places
}

// charge counts work that was done for a token. What it had while it was alone, it need
// not wait for.
func (s *shares) charge(t *share, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	part := workParts * d / time.Duration(s.cores)
	burst := workParts * workBurst / time.Duration(s.cores)
	if earliest := now.Add(-burst); t.paid.Before(earliest) {
		t.paid = earliest
	}
	if t.paid = t.paid.Add(part); t.paid.After(now) && s.alone(t) {
		t.paid = now
	}
}

// end says that the request is answered.
func (w *work) end() {
	w.leave()
	w.charge(w.share, requestWork)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.share.requests--
	if !w.looks {
		w.share.last = w.now()
	}
}

// outside calls f, which waits for something, without a place.
func (w *work) outside(ctx context.Context, f func() error) error {
	w.leave()
	if err := f(); err != nil {
		return err
	}
	return w.resume(ctx)
}

// hold waits for room for n bytes of a body and an answer, until the returned release.
func (w *work) hold(ctx context.Context, n int64) (release func(), err error) {
	n = min(n, maxHeld)
	release = func() { w.share.held.Release(n) }
	if w.share.held.TryAcquire(n) {
		return release, nil
	}
	w.leave() // whoever has the room may need the place to come to its end
	if w.share.held.Acquire(ctx, n) != nil {
		return nil, context.Cause(ctx)
	}
	if err := w.resume(ctx); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// longestPause bounds the wait before a part of an upload's body is read: its sender is
// given up a minute after its last byte.
const longestPause = time.Second

// uploadBody is the body of an upload. Whoever reads it works no more but waits for the
// client, and its bytes count as work.
type uploadBody struct {
	io.ReadCloser
	work  *work
	ctx   context.Context
	ended bool
}

func (b *uploadBody) Read(p []byte) (int, error) {
	b.work.leave()
	if owed := b.work.owed(b.work.share); owed > 0 {
		_ = sleep(b.ctx, min(owed, longestPause)) // if ctx has ended, Read says so
	}
	n, err := b.ReadCloser.Read(p)
	b.work.charge(b.work.share, bytesWork(int64(n)))
	b.ended = errors.Is(err, io.EOF)
	return n, err
}

func bytesWork(n int64) time.Duration { return time.Duration(n) * mibWork >> 20 }

// mostLeft is how much the kernel may take of a body that nobody reads.
const mostLeft = 4 << 20

// chargeLeft counts the work on a body of n bytes that nobody reads; -1 if that is not
// known.
func (w *work) chargeLeft(n int64) {
	if n < 0 || n > mostLeft {
		n = mostLeft
	}
	w.charge(w.share, leftWork+bytesWork(n))
}
