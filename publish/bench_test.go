// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
	ts "github.com/lirios/ostree-upload/test/server"
)

// BenchmarkJournalShare pushes 50,000 objects of some bytes each, the most
// unfavourable to the journal, to a whole server, and tells which share of the
// time from the first pack to the published ref is the journal's.
func BenchmarkJournalShare(b *testing.B) {
	const files, packLen = 50_000, 1700
	repo := filepath.Join(b.TempDir(), "build")
	commit := ts.Commit(b, repo, "x", "journal", files)
	names := ts.Objects(b, repo, commit)
	var packs [][]byte
	for from := 0; from < len(names); from += packLen {
		packs = append(packs, ts.Pack(b, repo, names[from:min(from+packLen, len(names))]...))
	}
	var in sampler
	for b.Loop() {
		b.StopTimer()
		s := ts.Start(b, "archive")
		c := s.Client(s.Token)
		id := c.Open(wire.Ref{Ref: "x", New: commit.String()}).ID
		for part := range slices.Chunk(names, wire.MaxNames) {
			c.Negotiate(id, part...)
		}
		b.StartTimer()
		stop := in.start()
		for i, p := range packs {
			c.Upload(id, fmt.Sprint("pack-", i), p)
		}
		got := c.Finalize(id)
		stop()
		b.StopTimer()
		if got.State != wire.Published || int(got.Objects.Staged) != len(names) {
			b.Fatalf("the session is %s with %d staged objects of %d", got.State, got.Objects.Staged, len(names))
		}
		b.StartTimer()
	}
	b.ReportMetric(100*float64(in.journal)/float64(in.looks), "journal-%")
}

// A sampler looks every few milliseconds at what all goroutines do, and counts
// those looks that find any within the journal: in bbolt, or waiting for it.
type sampler struct{ looks, journal int }

func (s *sampler) start() (stop func()) {
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		stacks := make([]byte, 1<<20)
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			s.looks++
			if strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "/journal.(*Journal).") {
				s.journal++
			}
		}
	}()
	return func() {
		close(over)
		<-done
	}
}
