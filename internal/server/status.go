// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

// status is how the server stands, as GET /api/v1/status tells it.
func (s *Server) status() wire.Status {
	st := s.Store.Stats()
	now := wire.Status{
		Started: s.traffic.started, Disks: []wire.Disk{}, Unsent: st.Unsent, Waiting: st.Waiting + st.Working,
		Sessions: map[string]int{}, Works: []wire.Due{}, Throughput: s.traffic.lately(),
	}
	for state, n := range s.Journal.States() {
		now.Sessions[string(state)] = n
	}
	keep := int64(s.opt.Settings().Limits.MinFreeSpace)
	for _, d := range s.disks() {
		now.Disks = append(now.Disks, wire.Disk{Folder: d.Folder, Free: int64(d.Free), Keep: keep, Inodes: int64(d.Inodes)})
	}
	slices.SortFunc(now.Disks, func(a, b wire.Disk) int { return cmp.Compare(a.Folder, b.Folder) })
	due, err := s.Journal.Works()
	if err != nil { // then it is not healthy, which is told
		due = nil
	}
	for _, w := range due {
		now.Works = append(now.Works, wire.Due{Work: w.Name, Since: w.Since, Tries: w.Tries, Error: w.Error, Next: w.Next})
	}
	if s.opt.pair != nil {
		now.Certificate = s.opt.pair.end()
	}
	return now
}

// How often the bytes that came are counted, and how many counts are remembered: those of
// an hour.
const (
	countEvery = 10 * time.Second
	mostCounts = 360
)

// traffic is how many bytes of uploads came in each of the last intervals.
type traffic struct {
	started  time.Time
	received func() int64 // since the start

	mu     sync.Mutex
	last   int64
	until  time.Time
	counts []int64
}

func newTraffic(received func() int64) *traffic {
	now := time.Now().UTC()
	return &traffic{started: now.Truncate(time.Second), received: received, last: received(), until: now}
}

// run counts until ctx ends.
func (t *traffic) run(ctx context.Context) {
	tick := time.NewTicker(countEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			t.count(now)
		}
	}
}

func (t *traffic) count(now time.Time) {
	all := t.received()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts = append(t.counts, all-t.last)
	t.counts = t.counts[max(0, len(t.counts)-mostCounts):]
	t.last, t.until = all, now.UTC()
}

func (t *traffic) lately() wire.Throughput {
	t.mu.Lock()
	defer t.mu.Unlock()
	return wire.Throughput{Every: int(countEvery / time.Second), Until: t.until.Truncate(time.Second), Bytes: append([]int64{}, t.counts...)}
}
