// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/must"
)

// Negotiation, ingest and readers at the same time end where they would one
// after the other. Run with -race.
func TestConcurrent(t *testing.T) {
	const workers, each = 4, 1200
	j := newJournal(t)
	j.db.NoSync = true
	ids := []string{create(t, j), create(t, j)}
	var g sync.WaitGroup
	for w := range workers {
		id := ids[w%2]
		g.Go(func() {
			for from := w * each; from < (w+1)*each; from += 100 {
				if err := j.Add(id, objects(from, from+100, Missing)); err != nil {
					t.Error(err)
				}
				if err := j.Record(id, upload(fmt.Sprint("pack-", from), from, from+100)); err != nil {
					t.Error(err)
				}
			}
		})
		g.Go(func() {
			for n := range 60 {
				s, err := j.Session(id)
				if err != nil || s.Counts.Staged > s.Counts.Known || s.Counts.Known%100 != 0 {
					t.Error(s, err)
				}
				var known, staged int64
				err = j.Each(id, func(_ ostree.Name, s Status) error {
					known++
					if s == Staged {
						staged++
					}
					return nil
				})
				if err != nil || known%100 != 0 || staged%100 != 0 {
					t.Error(known, staged, err)
				}
				if _, err := j.Needed(object(n * 50)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	g.Go(func() {
		for range 20 {
			if err := j.Check(); err != nil {
				t.Error(err)
			}
		}
	})
	g.Wait()
	for _, id := range ids {
		if c := session(t, j, id).Counts; c.Known != 2*each || c.Staged != 2*each || c.Received != 2*each*12 {
			t.Errorf("counts are %+v", c)
		}
	}
}

// Random work on a few sessions agrees with a plain map, also after crashes:
// the journal goes on from a copy of its file that was never closed.
func TestAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	j := newJournal(t)
	j.db.NoSync = true
	model := map[string]map[ostree.Name]Status{}
	for range 3 {
		model[create(t, j)] = map[ostree.Name]Status{}
	}
	ids := slices.Sorted(maps.Keys(model))
	for step := range 150 {
		id := ids[r.IntN(len(ids))]
		m := model[id]
		switch r.IntN(3) {
		case 0:
			from, status := r.IntN(3000), Missing+Status(r.IntN(4))
			list := objects(from, from+r.IntN(400), status)
			must.OK(t, j.Add(id, list))
			for _, e := range list {
				if m[e.Name] != Rejected || status != Missing {
					m[e.Name] = status
				}
			}
		case 1:
			up := Upload{Name: fmt.Sprint("pack-", step)}
			for n := range m {
				if len(up.Objects) == 150 {
					break
				}
				up.Objects = append(up.Objects, Result{Name: n})
				m[n] = Staged
			}
			must.OK(t, j.Record(id, up))
		case 2:
			names := []ostree.Name{object(r.IntN(6000)), object(r.IntN(6000))}
			must.OK(t, j.Withdraw(id, nil, names))
			m[names[0]], m[names[1]] = Missing, Missing
		}
		if step%30 == 29 {
			j = open(t, copyOf(t, j.path))
			j.db.NoSync = true
			for _, id := range ids {
				agrees(t, j, id, model[id])
			}
		}
	}
}

func agrees(t *testing.T, j *Journal, id string, want map[ostree.Name]Status) {
	t.Helper()
	got := map[ostree.Name]Status{}
	must.OK(t, j.Each(id, func(n ostree.Name, s Status) error {
		got[n] = s
		return nil
	}))
	if !maps.Equal(got, want) {
		t.Fatalf("session %s: %d objects differ from the model's %d", id, len(got), len(want))
	}
	var c Counts
	for n, s := range want {
		c.Known++
		c.move(0, s)
		if found := statusOf(t, j, id, n); found != s {
			t.Fatalf("object %s is %s, want %s", n, found, s)
		}
	}
	if got := session(t, j, id).Counts; got.Known != c.Known || got.Present != c.Present || got.Staged != c.Staged || got.Rejected != c.Rejected {
		t.Fatalf("counts are %+v, want %+v", got, c)
	}
}
