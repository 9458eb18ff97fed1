// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// job names a complete upload.
type job struct{ session, name string }

// task is a job that is waiting for a worker, or with one.
type task struct {
	job
	store  *Store
	token  string
	bytes  int64  // of the upload
	number uint64 // in the order of pushes
	again  bool   // pushed once more while it was worked on

	// Of one that was popped:
	ctx    context.Context
	cancel context.CancelFunc
	since  time.Time     // when it got its worker
	turn   chan struct{} // closed when it gets one again
	window int64         // of a pack that needs a large one
	wide   bool          // it has that
	works  bool          // it has a worker

	refused error // why the pack is none
}

// queue holds the complete uploads of one store or of several that wait for a worker or
// are with one, and
// shares the workers between tokens: those that had little of them lately come first,
// of these who has fewest gets the next one, and a task that takes long gives its
// worker up to somebody who comes before it (step).
//
// It has no bound of its own: an entry is some strings, and the sender of the last
// byte of an upload holds that upload's lock and must not wait. Whoever creates
// an upload does, in Throttle.
type queue struct {
	most int // tasks that may be begun and not ended: each has a buffer

	mu       sync.Mutex
	changed  *sync.Cond // something was pushed, given a worker, ended, or a waiter gave up
	lines    map[string]*line
	used     *usage
	open     map[string]map[string]*task // by session and upload
	failed   map[string]map[string]error // ended with an error, not pushed again since
	running  map[*Store]bool             // pop their tasks
	parked   []*task                     // of stores that do not, yet
	starting []*task                     // have a worker, and wait for pop
	free     int                         // workers
	begun    int                         // tasks that have a worker, or had one and wait
	last     uint64                      // number of the last task pushed
	turns    uint64                      // how often a worker was given
	wide     wide
}

// line is what waits for the workers of one token.
type line struct {
	token   string
	waiting []*task
	paused  []*task // begun, and without a worker
	working int     // workers that it has
	open    int     // tasks in all
	bytes   int64   // of their uploads
	turn    uint64  // when it got a worker last

	wideTurn uint64 // when it got a large window last
}

// begunPerWorker bounds the tasks that are begun and not ended.
const begunPerWorker = 4

func newQueue(workers int) *queue {
	q := &queue{
		most:    begunPerWorker * workers,
		free:    workers,
		running: make(map[*Store]bool),
		lines:   make(map[string]*line),
		used:    newUsage(workers),
		open:    make(map[string]map[string]*task),
		failed:  make(map[string]map[string]error),
	}
	q.changed = sync.NewCond(&q.mu)
	return q
}

// begin has workers given to the tasks of a store, until end.
func (q *queue) begin(s *Store) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running[s] = true
	for _, t := range q.parked {
		if t.store == s {
			q.lines[t.token].waiting = append(q.lines[t.token].waiting, t)
		}
	}
	q.parked = slices.DeleteFunc(q.parked, func(t *task) bool { return t.store == s })
	q.give()
}

// end forgets the tasks of a store, of which none is worked on any more.
func (q *queue) end(s *Store) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, s)
	for _, t := range slices.Clone(q.starting) {
		if t.store == s {
			q.works(t, false)
			q.begun--
		}
	}
	of := func(t *task) bool { return t.store == s }
	q.starting = slices.DeleteFunc(q.starting, of)
	q.parked = slices.DeleteFunc(q.parked, of)
	for session, tasks := range q.open {
		for _, t := range tasks {
			if t.store == s {
				l := q.lines[t.token]
				l.waiting = slices.DeleteFunc(l.waiting, of)
				q.remove(t)
				delete(q.failed, session)
			}
		}
	}
	q.give()
}

// works notes that a task has got a worker, or gives it back.
func (q *queue) works(t *task, works bool) {
	by := 1
	if !works {
		by = -1
	}
	t.works = works
	q.lines[t.token].working += by
	q.free -= by
}

// remove takes away a task that has no worker.
func (q *queue) remove(t *task) {
	drop(q.open, t.job)
	l := q.lines[t.token]
	l.bytes -= t.bytes
	if l.open--; l.open == 0 {
		delete(q.lines, t.token)
	}
}

// push adds a job of a token. One that is being worked on comes once more after
// that: its upload was rejected and made anew meanwhile.
func (q *queue) push(s *Store, token string, j job, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t := q.open[j.session][j.name]; t != nil {
		t.again = t.ctx != nil
		return
	}
	q.add(s, token, j, bytes)
}

func (q *queue) add(s *Store, token string, j job, bytes int64) {
	q.last++
	t := &task{job: j, store: s, token: token, bytes: bytes, number: q.last}
	put(q.open, j, t)
	drop(q.failed, j)
	l := q.lines[token]
	if l == nil {
		l = &line{token: token}
		q.lines[token] = l
	}
	l.open++
	l.bytes += bytes
	if !q.running[s] {
		q.parked = append(q.parked, t)
		return
	}
	l.waiting = append(l.waiting, t)
	q.give()
}

// give gives free workers to tasks.
func (q *queue) give() {
	for q.free > 0 {
		l := q.next()
		if l == nil {
			break
		}
		q.turns++
		l.turn = q.turns
		if len(l.paused) > 0 {
			q.works(l.paused[0], true)
			close(l.paused[0].turn)
			l.paused = l.paused[1:]
			continue
		}
		q.begun++
		q.works(l.waiting[0], true)
		q.starting = append(q.starting, l.waiting[0])
		l.waiting = l.waiting[1:]
	}
	q.changed.Broadcast()
}

// next is the token whose turn it is: of those with something to do, the one that comes
// before all others, and of several the one that waits the longest.
func (q *queue) next() (next *line) {
	for _, l := range q.lines {
		if q.wants(l) && (next == nil || q.before(l, next) || !q.before(next, l) && l.turn < next.turn) {
			next = l
		}
	}
	return next
}

// before tells whether a comes before b: it had less of the workers lately, or has fewer
// of them.
func (q *queue) before(a, b *line) bool {
	if much := q.used.much(a.token); much != q.used.much(b.token) {
		return !much
	}
	return a.working < b.working
}

// wants tells whether a token has use for a worker.
func (q *queue) wants(l *line) bool {
	return len(l.paused) > 0 || len(l.waiting) > 0 && q.begun < q.most
}

// pop waits for a task of a store that a worker can begin; it is false once ctx has
// ended. The task is cancelled with ctx.
func (q *queue) pop(ctx context.Context, s *Store) (*task, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.wakeAtEnd(ctx)()
	at := -1
	for ctx.Err() == nil {
		if at = slices.IndexFunc(q.starting, func(t *task) bool { return t.store == s }); at >= 0 {
			break
		}
		q.changed.Wait()
	}
	if at < 0 || ctx.Err() != nil {
		return nil, false
	}
	t := q.starting[at]
	q.starting = slices.Delete(q.starting, at, at+1)
	t.ctx, t.cancel = context.WithCancel(ctx)
	t.since = time.Now()
	return t, true
}

// turnTime is how long a task keeps its worker while another token comes before its own.
const turnTime = 10 * time.Millisecond

// step is called by a task that is worked on, again and again. It gives the worker
// up while another token comes before its own, and returns when the task has one again.
// The error says that the task was cancelled.
func (q *queue) step(t *task) error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	if time.Since(t.since) < turnTime {
		return nil
	}
	if q.pause(t) {
		select {
		case <-t.turn:
		case <-t.ctx.Done():
			// It gets a worker, to end: whoever ends has one.
			<-t.turn
		}
	}
	t.since = time.Now()
	return t.ctx.Err()
}

// pause takes a task's worker away if another token should have it.
func (q *queue) pause(t *task) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used.add(t.token, time.Since(t.since))
	l := q.lines[t.token]
	if next := q.next(); next == nil || next == l || !q.before(next, l) {
		return false
	}
	t.turn = make(chan struct{})
	l.paused = append(l.paused, t)
	q.works(t, false)
	q.give()
	return true
}

// finish says how a popped task has ended.
func (q *queue) finish(t *task, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.ctx.Err() == nil && err != nil {
		put(q.failed, t.job, err)
	}
	t.cancel()
	q.used.add(t.token, time.Since(t.since))
	q.closeWide(t)
	q.works(t, false)
	q.remove(t)
	q.begun--
	if t.again {
		q.add(t.store, t.token, t.job, t.bytes)
	}
	q.give()
}

func (q *queue) has(j job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.open[j.session][j.name] != nil
}

// forget drops what failed of a session that has ended, and cancels what is being
// worked on. What waits finds no upload any more.
func (q *queue) forget(session string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.failed, session)
	for _, t := range q.open[session] {
		if t.cancel != nil {
			t.cancel()
		}
	}
}

// wait returns when the jobs of a session that were pushed before the call
// have ended, with those that failed; or with ctx's error.
func (q *queue) wait(ctx context.Context, session string) (failed map[string]error, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.wakeAtEnd(ctx)()
	last := q.last
	for q.busy(session, last) && ctx.Err() == nil {
		q.changed.Wait()
	}
	return maps.Clone(q.failed[session]), ctx.Err()
}

func (q *queue) busy(session string, last uint64) bool {
	for _, t := range q.open[session] {
		if t.number <= last {
			return true
		}
	}
	return false
}

// waitBelow returns when fewer than jobs of a token are open, or fewer than bytes of
// their uploads, or when ctx has ended.
func (q *queue) waitBelow(ctx context.Context, token string, jobs int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.wakeAtEnd(ctx)()
	for ctx.Err() == nil {
		if l := q.lines[token]; l == nil || l.open < jobs || l.bytes < bytes {
			return
		}
		q.changed.Wait()
	}
}

// wakeAtEnd wakes all waiters when ctx ends, until the returned stop.
func (q *queue) wakeAtEnd(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.changed.Broadcast()
	})
}

// put and drop change what is known of one upload.
func put[T any](m map[string]map[string]T, j job, v T) {
	if m[j.session] == nil {
		m[j.session] = make(map[string]T)
	}
	m[j.session][j.name] = v
}

func drop[T any](m map[string]map[string]T, j job) {
	delete(m[j.session], j.name)
	if len(m[j.session]) == 0 {
		delete(m, j.session)
	}
}
