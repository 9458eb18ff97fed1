// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

// A Pool has the workers that ingest the uploads of several stores, and the memory that
// they need: so much for all of them, whatever is sent to how many.
type Pool struct {
	queue *queue
	idle  chan *worker // those that have nothing to do
}

// NewPool makes a Pool of so many workers.
func NewPool(workers int) *Pool {
	return &Pool{newQueue(workers), make(chan *worker, workers)}
}

// leave forgets a store, of which nothing is worked on any more.
func (p *Pool) leave(s *Store) {
	p.queue.end(s)
	for range len(p.idle) {
		select {
		case w := <-p.idle:
			if w.Store == s {
				_ = w.leave() // only its spool, which nobody reads any more
				w.Store = nil
			}
			p.keep(w)
		default: // others have them
		}
	}
}

// keep keeps a worker for the next upload, unless there are enough.
func (p *Pool) keep(w *worker) {
	select {
	case p.idle <- w:
	default:
		_ = w.close() // only its spool, which nobody reads any more
	}
}
