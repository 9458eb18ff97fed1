// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// job names a complete upload.
type job struct{ session, name string }

// queue holds the complete uploads that wait for a worker or are with one. It
// has no bound of its own: an entry is two strings, and the sender of the last
// byte of an upload holds that upload's lock and must not wait. Whoever creates
// an upload does, in Throttle.
type queue struct {
	mu      sync.Mutex
	changed *sync.Cond // something was pushed, ended, or a waiter gave up
	waiting []job
	open    map[job]uint64 // waiting or being worked on: its number
	again   map[job]bool   // pushed once more while it was worked on
	failed  map[job]error  // ended with an error, not pushed again since
	last    uint64         // number of the last job pushed
}

func newQueue() *queue {
	q := &queue{open: make(map[job]uint64), again: make(map[job]bool), failed: make(map[job]error)}
	q.changed = sync.NewCond(&q.mu)
	return q
}

// push adds a job. One that is being worked on comes once more after that: its
// upload was rejected and made anew meanwhile.
func (q *queue) push(j job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open[j] != 0 {
		q.again[j] = !slices.Contains(q.waiting, j)
		return
	}
	q.add(j)
}

func (q *queue) add(j job) {
	q.last++
	q.open[j] = q.last
	delete(q.failed, j)
	q.waiting = append(q.waiting, j)
	q.changed.Broadcast()
}

// pop waits for a job; it is false once ctx has ended.
func (q *queue) pop(ctx context.Context) (job, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.wakeAtEnd(ctx)()
	for len(q.waiting) == 0 && ctx.Err() == nil {
		q.changed.Wait()
	}
	if ctx.Err() != nil {
		return job{}, false
	}
	j := q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	return j, true
}

// finish says how a popped job has ended.
func (q *queue) finish(j job, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.open, j)
	if err != nil {
		q.failed[j] = err
	}
	if q.again[j] {
		delete(q.again, j)
		q.add(j)
	}
	q.changed.Broadcast()
}

func (q *queue) has(j job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.open[j] != 0
}

// forget drops what failed of a session that has ended.
func (q *queue) forget(session string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	maps.DeleteFunc(q.failed, func(j job, _ error) bool { return j.session == session })
}

// wait returns when the jobs of a session that were pushed before the call
// have ended, with those that failed; or with ctx's error.
func (q *queue) wait(ctx context.Context, session string) (failed map[job]error, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.wakeAtEnd(ctx)()
	last := q.last
	for q.busy(session, last) && ctx.Err() == nil {
		q.changed.Wait()
	}
	failed = maps.Clone(q.failed)
	maps.DeleteFunc(failed, func(j job, _ error) bool { return j.session != session })
	return failed, ctx.Err()
}

func (q *queue) busy(session string, last uint64) bool {
	for j, number := range q.open {
		if j.session == session && number <= last {
			return true
		}
	}
	return false
}

// waitBelow returns when fewer than most jobs are open, or when ctx has ended.
func (q *queue) waitBelow(ctx context.Context, most int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.wakeAtEnd(ctx)()
	for len(q.open) >= most && ctx.Err() == nil {
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
