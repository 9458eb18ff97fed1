// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/objects"
)

// begin pops a task that has had its worker for its time already.
func begin(t *testing.T, q *queue) *task {
	t.Helper()
	next, ok := q.pop(t.Context(), nil)
	if !ok {
		t.Fatal("no task")
	}
	next.since = time.Now().Add(-turnTime)
	return next
}

// paused counts the tasks of a token that gave their worker up.
func (q *queue) paused(token string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.lines[token]; l != nil {
		return len(l.paused)
	}
	return 0
}

// A token with many long tasks gives a worker to another that comes, however many
// there are, and gets it back when that is done.
func TestTurns(t *testing.T) {
	for workers := 1; workers <= 3; workers++ {
		q := newQueue(workers)
		q.begin(nil)
		for i := range 2 * workers {
			q.push(nil, "hog", job{"h", fmt.Sprint(i)}, 0)
		}
		var hogs []*task
		for range workers {
			hogs = append(hogs, begin(t, q))
			must.OK(t, q.step(hogs[len(hogs)-1])) // nobody else is there
		}
		q.push(nil, "other", job{"o", "p"}, 0)
		for _, h := range hogs {
			h.since = time.Now().Add(-turnTime)
		}
		goesOn := make(chan error, 1)
		go func() { goesOn <- q.step(hogs[0]) }()
		other := begin(t, q)
		if other.token != "other" || q.paused("hog") != 1 {
			t.Fatalf("%d workers: the turn is %s's, %d paused", workers, other.token, q.paused("hog"))
		}
		if workers == 2 {
			must.OK(t, q.step(hogs[1])) // one each
		}
		q.finish(other, nil)
		must.OK(t, <-goesOn)
		if last := hogs[workers-1]; last.token != "hog" || q.paused("hog") != 0 {
			t.Errorf("%d workers: %d still wait", workers, q.paused("hog"))
		}
	}
}

// Two tokens with one worker take turns, also while neither comes to an end.
func TestTurnsAlternate(t *testing.T) {
	q := newQueue(1)
	q.begin(nil)
	q.push(nil, "a", job{"a", "p"}, 0)
	q.push(nil, "b", job{"b", "p"}, 0)
	a := begin(t, q)
	aGoesOn := make(chan error, 1)
	go func() { aGoesOn <- q.step(a) }()
	b := begin(t, q)
	bGoesOn := make(chan error, 1)
	go func() { bGoesOn <- q.step(b) }()
	must.OK(t, <-aGoesOn)
	q.finish(a, nil)
	must.OK(t, <-bGoesOn)
	q.finish(b, nil)
}

// Each task that is begun has buffers: what is begun is bounded.
func TestBegunIsBounded(t *testing.T) {
	q := newQueue(1)
	q.begin(nil)
	ended := make(chan error)
	tokens := 2 * begunPerWorker
	for i := range tokens {
		q.push(nil, fmt.Sprint(i), job{fmt.Sprint(i), "p"}, 0)
	}
	var begun []*task
	for range begunPerWorker {
		next := begin(t, q)
		begun = append(begun, next)
		if len(begun) < begunPerWorker {
			go func() { ended <- q.step(next) }()
		}
	}
	last := begun[len(begun)-1]
	go func() { ended <- q.step(last) }() // somebody else goes on, nobody begins
	must.OK(t, <-ended)
	if q.begun != begunPerWorker {
		t.Errorf("%d tasks are begun", q.begun)
	}
	q.mu.Lock()
	for _, b := range begun {
		b.cancel()
	}
	q.mu.Unlock()
}

// A task that was cancelled ends at its next step, also one that waits.
func TestForgetCancels(t *testing.T) {
	q := newQueue(1)
	q.begin(nil)
	q.push(nil, "a", job{"a", "p"}, 0)
	a := begin(t, q)
	q.forget("a")
	if err := q.step(a); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	q.finish(a, errors.New("cut short"))
	if failed, err := q.wait(t.Context(), "a"); err != nil || len(failed) > 0 {
		t.Errorf("%v, %v", failed, err)
	}
}

// bomb is a content object of some MiB that inflates to 16 GiB and then has another
// checksum. Its verification takes longer than anything else in these tests.
func bomb() (ostree.Name, []byte) {
	f := objects.SoundFile("")
	f.Size, f.Deflated = 16<<30, objects.DeflateZeros(16<<10)
	return ostree.Name{Checksum: ostree.Checksum{1}, Type: ostree.File}, f.Object().Bytes
}

// waitBegun waits until an upload is being ingested.
func (f *fixture) waitBegun() {
	f.t.Helper()
	must.Wait(f.t, "an upload is being ingested", func() bool {
		f.queue.mu.Lock()
		defer f.queue.mu.Unlock()
		return f.queue.begun > 0 && len(f.queue.starting) == 0
	})
}

// A token's uploads that take long hold up nobody else's; a stop and the end of a
// session do not wait for them, and what a stop cut short is ingested later.
func TestLongIngest(t *testing.T) {
	f := newFixture(t)
	n, b := bomb()
	f.add(n)
	f.send(n.String(), len(b), b)
	p := pack(frame(n, b[:1<<20]))
	f.send("p", len(p), p)
	f.waitBegun()

	hog := f.session
	other, err := f.cfg.Journal.Create(journal.Session{Refs: []wire.Ref{{Ref: "y"}}, Token: "other"}, time.Hour)
	must.OK(t, err)
	f.session = other.ID
	f.stage()
	f.session = hog
	if !f.queue.has(job{hog, n.String()}) {
		t.Error("the small uploads waited for the long one")
	}

	f.reopen()
	if f.offset(n.String()) != int64(len(b)) || f.counts().Rejected != 0 {
		t.Errorf("offset %d, %+v: the stop waited", f.offset(n.String()), f.counts())
	}
	f.waitBegun()
	_, err = f.cfg.Journal.Move(hog, journal.Aborted, nil)
	must.OK(t, err)
	must.OK(t, f.Drop(hog))
	f.wait()
	if f.counts().Rejected != 0 {
		t.Error("the end of its session waited")
	}
}

// Stores share the workers of a pool. One that does not run, yet or any more, has none of
// them, and what waited for one that has ended is forgotten.
func TestStoresOfOnePool(t *testing.T) {
	p := NewPool(1)
	q, one, other := p.queue, &Store{}, &Store{}
	q.push(one, "a", job{"one", "1"}, 0)
	q.begin(other)
	q.push(other, "a", job{"other", "1"}, 0)
	q.push(other, "a", job{"other", "2"}, 0)
	of := func(s *Store) *task {
		t.Helper()
		next, ok := q.pop(t.Context(), s)
		if !ok || next.store != s {
			t.Fatalf("popped %+v", next)
		}
		return next
	}
	q.finish(of(other), nil)
	q.begin(one)
	counts := func(s *Store, waiting, working int) {
		t.Helper()
		if a, b := q.length(s); a != waiting || b != working {
			t.Errorf("%d wait and %d are worked on, want %d and %d", a, b, waiting, working)
		}
	}
	counts(one, 1, 0)
	counts(other, 0, 1) // has the worker, and waits for pop
	p.leave(other)
	counts(other, 0, 0)
	q.finish(of(one), nil)
	q.push(one, "a", job{"one", "2"}, 0)
	q.finish(of(one), nil)
	counts(one, 0, 0)
	if q.free != 1 || q.begun != 0 || len(q.lines)+len(q.open)+len(q.starting)+len(q.parked) != 0 {
		t.Errorf("left over: %+v", q)
	}
}

// A token whose uploads are small is held back later than one whose uploads are packs:
// the workers are as far behind, and the link would stand still.
func TestQueueHoldsBackByBytes(t *testing.T) {
	q := newQueue(1)
	q.begin(nil)
	for i := range 3 {
		q.push(nil, "a", job{"a", fmt.Sprint(i)}, 10)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	q.waitBelow(t.Context(), "a", 1, 31)
	q.waitBelow(t.Context(), "a", 4, 30)
	held := make(chan bool)
	go func() {
		q.waitBelow(t.Context(), "a", 1, 30)
		close(held)
	}()
	q.waitBelow(ended, "a", 1, 30)
	select {
	case <-held:
		t.Error("30 bytes wait, and another upload is let in")
	default:
	}
	task, _ := q.pop(t.Context(), nil)
	q.finish(task, nil)
	<-held
}
