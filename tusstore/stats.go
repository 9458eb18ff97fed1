// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"sync/atomic"

	"github.com/lirios/ostree-upload/journal"
)

// Stats tell how a store does.
type Stats struct {
	// Since it was opened:
	Received int64 // bytes of uploads
	Verified int64 // objects that are what their names say
	Rejected int64 // objects that are not, or that are too large
	// Now:
	Uploads int   // not done
	Unsent  int64 // bytes of those that have not come
	Waiting int   // complete uploads that wait for a worker
	Working int   // complete uploads that have one
}

// counters are what Stats counts.
type counters struct{ received, verified, rejected atomic.Int64 }

// results counts the objects of an upload that was ingested.
func (c *counters) results(of []journal.Result) {
	for _, r := range of {
		if r.Reason == "" {
			c.verified.Add(1)
		} else {
			c.rejected.Add(1)
		}
	}
}

// Stats asks no file and waits for none.
func (s *Store) Stats() Stats {
	st := Stats{Received: s.counters.received.Load(), Verified: s.counters.verified.Load(), Rejected: s.counters.rejected.Load()}
	st.Uploads, st.Unsent = s.claims.sum()
	st.Waiting, st.Working = s.queue.length(s)
	return st
}

// sum counts the uploads and their bytes that have not come.
func (c *claims) sum() (uploads int, unsent int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sessions {
		uploads += len(s.uploads)
		unsent += s.unsent
	}
	return uploads, unsent
}

// length counts the tasks of a store that wait for a worker and those that have one.
func (q *queue) length(s *Store) (waiting, working int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, tasks := range q.open {
		for _, t := range tasks {
			switch {
			case t.store != s:
			case t.works:
				working++
			default:
				waiting++
			}
		}
	}
	return waiting, working
}
