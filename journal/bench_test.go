// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/must"
)

const (
	largeSet = 1_000_000
	batch    = 20_000
	packLen  = 1700 // objects in a pack of usual files
)

var largeDir string

// large makes a journal of 1,000 past sessions and an open one of 1,000,000
// objects, once for all benchmarks.
var large = sync.OnceValues(func() (path string, err error) {
	if largeDir, err = os.MkdirTemp("", "journal"); err != nil {
		return "", err
	}
	path = filepath.Join(largeDir, "journal.db")
	j, err := OpenFile(path)
	if err != nil {
		return "", err
	}
	j.db.NoSync = true
	for range 1000 {
		s, err := j.Create(Session{Token: "ci"}, week)
		if err != nil {
			return "", err
		}
		if _, err := j.Move(s.ID, Aborted, nil); err != nil {
			return "", err
		}
		if err := j.Release(s.ID); err != nil {
			return "", err
		}
	}
	s, err := j.Create(Session{Token: "ci"}, week)
	if err != nil {
		return "", err
	}
	for from := 0; from < largeSet; from += batch {
		if err := j.Add(s.ID, objects(from, from+batch, Missing)); err != nil {
			return "", err
		}
	}
	return path, j.Close()
})

func removeLarge() { os.RemoveAll(largeDir) }

// openLarge opens a copy of the large journal and gives the session that is open.
func openLarge(b *testing.B) (*Journal, string) {
	b.Helper()
	path, err := large()
	must.OK(b, err)
	j, err := OpenFile(copyOf(b, path))
	must.OK(b, err)
	b.Cleanup(func() { j.Close() })
	list, err := j.Sessions(func(s *Session) bool { return s.State == Open })
	must.OK(b, err)
	_, err = j.Statuses(list[0].ID, []ostree.Name{object(0)}) // makes the index
	must.OK(b, err)
	return j, list[0].ID
}

// BenchmarkAdd negotiates 20,000 objects in a set of 1,000,000: new ones, and
// ones that are known, asked for again.
func BenchmarkAdd(b *testing.B) {
	b.Run("new", func(b *testing.B) {
		j, id := openLarge(b)
		for next := largeSet; b.Loop(); next += batch {
			b.StopTimer()
			list := objects(next, next+batch, Missing)
			b.StartTimer()
			must.OK(b, j.Add(id, list))
		}
	})
	b.Run("known", func(b *testing.B) {
		j, id := openLarge(b)
		list := objects(0, batch, Missing)
		for b.Loop() {
			must.OK(b, j.Add(id, list))
		}
	})
	b.Run("small", func(b *testing.B) { // a whole set of 50,000
		list := objects(0, 50_000, Missing)
		j := newJournal(b)
		for b.Loop() {
			id := create(b, j)
			for part := range slices.Chunk(list, batch) {
				must.OK(b, j.Add(id, part))
			}
		}
	})
}

// BenchmarkRecord notes a pack of 1,700 objects in a set of 1,000,000: in the
// order in which they were negotiated, as clients send them, and in none.
func BenchmarkRecord(b *testing.B) {
	b.Run("in order", func(b *testing.B) {
		j, id := openLarge(b)
		for n := 0; b.Loop(); n++ {
			b.StopTimer()
			from := n * packLen % (largeSet - packLen)
			up := upload(fmt.Sprint("pack-", n), from, from+packLen)
			b.StartTimer()
			must.OK(b, j.Record(id, up))
		}
	})
	b.Run("random", func(b *testing.B) {
		j, id := openLarge(b)
		order := rand.New(rand.NewPCG(1, 2)).Perm(largeSet)
		for n := 0; b.Loop(); n++ {
			b.StopTimer()
			up := Upload{Name: fmt.Sprint("pack-", n)}
			for i := range packLen {
				up.Objects = append(up.Objects, Result{Name: object(order[(n*packLen+i)%largeSet])})
			}
			b.StartTimer()
			must.OK(b, j.Record(id, up))
		}
	})
}

// BenchmarkPush is the journal's whole part in a push of 50,000 objects.
func BenchmarkPush(b *testing.B) {
	const total = 50_000
	list := objects(0, total, Missing)
	var packs []Upload
	for from := 0; from < total; from += packLen {
		packs = append(packs, upload(fmt.Sprint("pack-", from), from, min(from+packLen, total)))
	}
	j := newJournal(b)
	for b.Loop() {
		id := create(b, j)
		for part := range slices.Chunk(list, batch) {
			must.OK(b, j.Add(id, part))
		}
		for _, up := range packs {
			must.OK(b, j.Record(id, up))
		}
		must.OK(b, j.Each(id, func(ostree.Name, Status) error { return nil }))
		move(b, j, id, Verifying, Publishing, Published)
		must.OK(b, j.Release(id))
	}
}

// BenchmarkOpen opens and closes the large journal.
func BenchmarkOpen(b *testing.B) {
	path, err := large()
	must.OK(b, err)
	path = copyOf(b, path)
	for b.Loop() {
		j, err := OpenFile(path)
		must.OK(b, err)
		b.StopTimer()
		must.OK(b, j.Close())
		b.StartTimer()
	}
}

// BenchmarkIndex is the first use of a set of 1,000,000 after the start.
func BenchmarkIndex(b *testing.B) {
	j, id := openLarge(b)
	for b.Loop() {
		j.dropIndex(id)
		_, err := j.Statuses(id, []ostree.Name{object(0)})
		must.OK(b, err)
	}
}

// BenchmarkSessions lists the 1,001 sessions of the large journal.
func BenchmarkSessions(b *testing.B) {
	j, _ := openLarge(b)
	for b.Loop() {
		list, err := j.Sessions(nil)
		if err != nil || len(list) != 1001 {
			b.Fatal(len(list), err)
		}
	}
}

// BenchmarkSession reads one session whose set has 1,000,000 objects.
func BenchmarkSession(b *testing.B) {
	j, id := openLarge(b)
	for b.Loop() {
		_, err := j.Session(id)
		must.OK(b, err)
	}
}

// BenchmarkNeeded asks for an object in the set, and for one that is in none.
func BenchmarkNeeded(b *testing.B) {
	j, _ := openLarge(b)
	for n := 0; b.Loop(); n++ {
		_, err := j.Needed(object(n % (2 * largeSet)))
		must.OK(b, err)
	}
}

// BenchmarkEach goes through a set of 1,000,000.
func BenchmarkEach(b *testing.B) {
	j, id := openLarge(b)
	for b.Loop() {
		must.OK(b, j.Each(id, func(ostree.Name, Status) error { return nil }))
	}
}

// BenchmarkRelease drops a set of 1,000,000.
func BenchmarkRelease(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		j, id := openLarge(b)
		move(b, j, id, Aborted)
		b.StartTimer()
		must.OK(b, j.Release(id))
		b.StopTimer()
		must.OK(b, j.Close())
		b.StartTimer()
	}
}
