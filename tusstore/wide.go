// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"runtime"
	"slices"

	"github.com/lirios/ostree-upload/internal/encode"
	"github.com/lirios/ostree-upload/internal/wire"
)

// prepare looks what kind of upload a task is about, and waits for a large window if it
// needs one.
func (s *Store) prepare(t *task) (shared bool, err error) {
	if !wire.IsPackName(t.name) {
		return false, nil
	}
	shared, window, refused, err := s.isShared(t.session, t.name)
	t.refused = refused
	if err == nil && window > encode.SmallWindow {
		err = s.queue.widen(t, window)
	}
	return shared, err
}

// keptWindow is the largest window that a worker keeps for the next pack: what this
// program's clients need.
const keptWindow = 16 << 20

// release keeps a worker for the next upload, unless there are enough. A larger window is
// freed before the next one is made: else there soon are as many as the collector lets
// pile up.
func (s *Store) release(w *worker) {
	if w.task.wide && w.task.window > keptWindow && w.reader != nil {
		w.reader.Close()
		w.reader = nil
		runtime.GC()
	}
	s.pool.keep(w)
}

// wide shares the memory of large windows between the packs that need one: a few bytes
// are enough to claim 128 MiB. Who waits for its share has no worker and no buffers.
type wide struct {
	used    int64 // bytes of windows
	turns   uint64
	waiting []*task
}

// maxWide is how many bytes the large windows have that are open at a time.
const maxWide = encode.MaxWindow

// widen returns when a task may have a window of so many bytes. It has a worker then,
// as before the call, also if the error says that it was cancelled.
func (q *queue) widen(t *task, window int64) error {
	if !q.takeWide(t, window) {
		select {
		case <-t.turn:
		case <-t.ctx.Done():
			q.leaveWide(t)
			<-t.turn
		}
	}
	return t.ctx.Err()
}

// takeWide takes a window, or gives the worker up and has the task wait for both.
func (q *queue) takeWide(t *task, window int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	t.window = window
	if len(q.wide.waiting) == 0 && q.wide.used+window <= maxWide {
		q.openWide(t)
		return true
	}
	t.turn = make(chan struct{})
	q.wide.waiting = append(q.wide.waiting, t)
	q.works(t, false)
	q.begun--
	q.give()
	return false
}

func (q *queue) openWide(t *task) {
	t.wide = true
	q.wide.used += t.window
	q.wide.turns++
	q.lines[t.token].wideTurn = q.wide.turns
}

// closeWide gives back the window of a task that has one, and gives it to others.
func (q *queue) closeWide(t *task) {
	if !t.wide {
		return
	}
	t.wide = false
	q.wide.used -= t.window
	for next := q.nextWide(); next != nil && q.wide.used+next.window <= maxWide; next = q.nextWide() {
		q.openWide(next)
		q.stopWaiting(next)
	}
}

// nextWide is the task that waits for the token whose turn is the longest ago.
func (q *queue) nextWide() (next *task) {
	for _, t := range q.wide.waiting {
		if next == nil || q.lines[t.token].wideTurn < q.lines[next.token].wideTurn {
			next = t
		}
	}
	return next
}

// leaveWide ends the wait of a task that was cancelled.
func (q *queue) leaveWide(t *task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if slices.Contains(q.wide.waiting, t) {
		q.stopWaiting(t)
		q.give()
	}
}

// stopWaiting has a task wait for a worker only.
func (q *queue) stopWaiting(t *task) {
	q.wide.waiting = slices.DeleteFunc(q.wide.waiting, func(other *task) bool { return other == t })
	l := q.lines[t.token]
	l.paused = append(l.paused, t)
	q.begun++
}
