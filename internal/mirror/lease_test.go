// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/store"
)

const leaseKey = ".ostree-upload/prune"

// otherLease writes the lease of a server that is not here.
func (p *place) otherLease() string {
	p.t.Helper()
	const text = `{"seconds": 3600, "write": "another"}`
	_, err := p.bucket.Put(p.t.Context(), leaseKey, []byte(text))
	must.OK(p.t, err)
	return text
}

// isLease checks what the lease is.
func (p *place) isLease(text string) {
	p.t.Helper()
	got, _, err := p.bucket.Get(p.t.Context(), leaseKey, 1<<20)
	if string(got) != text {
		p.t.Errorf("the lease is %q, %v", got, err)
	}
}

// One has the lease at a time, and publishes see it.
func TestLeaseHasOneOwner(t *testing.T) {
	p := newPlace(t)
	m, other := p.open(t.TempDir()), p.open(t.TempDir())
	must.OK(t, m.CheckLease(t.Context()))
	l, err := m.TakeLease(t.Context())
	must.OK(t, err)
	for _, who := range []*mirror.Mirror{m, other} {
		if err := who.CheckLease(t.Context()); !errors.Is(err, mirror.ErrPruning) {
			t.Errorf("a publish sees %v", err)
		}
		if _, err := who.TakeLease(t.Context()); !errors.Is(err, mirror.ErrPruning) {
			t.Errorf("taking it again: %v", err)
		}
	}
	must.OK(t, l.Release(t.Context()))
	must.OK(t, l.Release(t.Context()))
	l, err = other.TakeLease(t.Context())
	must.OK(t, err)
	must.OK(t, l.Release(t.Context()))
}

// Of many that find an ended lease, one gets it.
func TestEndedLease(t *testing.T) {
	clock := store.NewClock(time.Now())
	p := newPlaceIn(t, store.FakeOptions{Clock: clock})
	m := p.open(t.TempDir())
	p.otherLease()
	clock.Turn(time.Hour)
	must.OK(t, m.CheckLease(t.Context()))
	var all sync.WaitGroup
	var won atomic.Int32
	for range 8 {
		all.Go(func() {
			_, err := m.TakeLease(t.Context())
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, mirror.ErrPruning) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d have the lease", won.Load())
	}
}

// When a lease and a mark end, the store's clock tells, however wrong that of a server is.
func TestClocksDiffer(t *testing.T) {
	const off = 8 * time.Hour
	for name, ahead := range map[string]time.Duration{"ahead": off, "behind": -off, "equal": 0} {
		t.Run(name, func(t *testing.T) {
			clock := store.NewClock(time.Now().Add(ahead))
			p := newPlaceIn(t, store.FakeOptions{Clock: clock})
			m, other := p.open(t.TempDir()), p.open(t.TempDir())
			l, err := m.TakeLease(t.Context())
			must.OK(t, err)
			clock.Turn(5*time.Minute - time.Second)
			if _, err := other.TakeLease(t.Context()); !errors.Is(err, mirror.ErrPruning) {
				t.Errorf("another takes it: %v", err)
			}
			clock.Turn(time.Second)
			must.OK(t, other.CheckLease(t.Context()))
			_, err = other.TakeLease(t.Context())
			must.OK(t, err)
			l.EndIn(time.Minute)
			if err := l.Renew(t.Context()); !errors.Is(err, mirror.ErrPruning) {
				t.Errorf("its first owner renews it: %v", err)
			}
			p.marksCount(m, clock)
		})
	}
}

// What is removed under a lease is asked for while it lasts, and not in its last minute.
func TestWhile(t *testing.T) {
	l, err := newPlace(t).open(t.TempDir()).TakeLease(t.Context())
	must.OK(t, err)
	for left, ends := range map[time.Duration]bool{time.Hour: false, time.Minute: true} {
		l.EndIn(left)
		ctx, cancel := l.While(t.Context())
		if err := ctx.Err(); (err != nil) != ends {
			t.Errorf("%s before its end: %v", left, err)
		}
		cancel()
	}
}

// marksCount checks that a mark counts for a day of the store's.
func (p *place) marksCount(m *mirror.Mirror, clock *store.Clock) {
	p.t.Helper()
	_, err := p.bucket.Put(p.t.Context(), mirror.MarksPrefix+"one", []byte("{}"))
	must.OK(p.t, err)
	clock.Turn(mirror.MarkTime - time.Second)
	if keys, err := m.Publishing(p.t.Context()); len(keys) != 1 || err != nil {
		p.t.Errorf("a mark of less than a day: %q, %v", keys, err)
	}
	clock.Turn(time.Second)
	if keys, err := m.Publishing(p.t.Context()); len(keys) != 0 || err != nil {
		p.t.Errorf("a mark of a day: %q, %v", keys, err)
	}
}

// Of a store that does not tell the time, this machine's clock counts.
func TestStoreTellsNoTime(t *testing.T) {
	clock := store.NewClock(time.Now())
	p := &place{t: t} // without a proxy, which would tell the time itself
	p.atStore(store.Fake(t, store.FakeOptions{Clock: clock, NoDate: true}), "os")
	m := p.open(t.TempDir())
	p.otherLease()
	if err := m.CheckLease(t.Context()); !errors.Is(err, mirror.ErrPruning) {
		t.Errorf("a new lease: %v", err)
	}
	clock.Turn(-time.Hour) // as if it had been written before
	p.otherLease()
	must.OK(t, m.CheckLease(t.Context()))
}

// A lease is renewed long before its end, and not after it.
func TestRenew(t *testing.T) {
	p := newPlace(t)
	l, err := p.open(t.TempDir()).TakeLease(t.Context())
	must.OK(t, err)
	p.proxy.Play(nil)
	must.OK(t, l.Renew(t.Context()))
	if n := len(p.proxy.Requests()); n != 0 {
		t.Errorf("a new one took %d requests", n)
	}
	l.EndIn(time.Minute)
	must.OK(t, l.Renew(t.Context()))
	must.OK(t, l.Renew(t.Context()))
	if n := len(p.proxy.Requests()); n != 1 {
		t.Errorf("one that soon ends took %d requests", n)
	}
	l.EndIn(-time.Second)
	if err := l.Renew(t.Context()); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("one that has ended: %v", err)
	}
	if n := len(p.proxy.Requests()); n != 1 {
		t.Error("one that had ended was written")
	}
}

// Whoever lost the lease to another server notices that, and leaves the other's alone.
func TestLostLease(t *testing.T) {
	p := newPlace(t)
	l, err := p.open(t.TempDir()).TakeLease(t.Context())
	must.OK(t, err)
	other := p.otherLease()
	l.EndIn(time.Minute)
	if err := l.Renew(t.Context()); !errors.Is(err, mirror.ErrPruning) {
		t.Errorf("renewing it: %v", err)
	}
	if err := l.Renew(t.Context()); err == nil {
		t.Error("it was renewed the second time")
	}
	must.OK(t, l.Release(t.Context()))
	p.isLease(other)
	must.OK(t, p.bucket.Delete(t.Context(), leaseKey, "")) // also when the other is done
	if err := l.Renew(t.Context()); err == nil {
		t.Error("a lost lease was taken again")
	}
}

// If the store refuses to renew a lease, its owner can still give it back, and nobody
// else's.
func TestRenewFails(t *testing.T) {
	for name, lost := range map[string]bool{"own": false, "another's": true} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			l, err := p.open(t.TempDir()).TakeLease(t.Context())
			must.OK(t, err)
			l.EndIn(time.Minute)
			p.proxy.Play(func(store.Request) *store.Fault { return store.Denied })
			if err := l.Renew(t.Context()); err == nil || errors.Is(err, mirror.ErrPruning) {
				t.Errorf("renewing it: %v", err)
			}
			p.proxy.Play(nil)
			left := ""
			if lost {
				left = p.otherLease()
			}
			if err := l.Release(t.Context()); (err != nil) != lost {
				t.Errorf("giving it back: %v", err)
			}
			p.isLease(left)
		})
	}
}

// A damaged lease holds up who prunes and who publishes, with words about it.
func TestDamagedLease(t *testing.T) {
	p := newPlace(t)
	m := p.open(t.TempDir())
	for _, text := range []string{"", "x", "[]", `{"seconds": "some"}`, `{"until": "soon"}`,
		`{"seconds": -1}`, `{"seconds": 9000000000000000000}`, strings.Repeat(" ", 1<<20)} {
		_, err := p.bucket.Put(t.Context(), leaseKey, []byte(text))
		must.OK(t, err)
		_, err = m.TakeLease(t.Context())
		for _, err := range []error{err, m.CheckLease(t.Context())} {
			if err == nil || errors.Is(err, mirror.ErrPruning) || !strings.Contains(err.Error(), leaseKey) {
				t.Errorf("of %.20q: %v", text, err)
			}
			if len(text) < 100 && !strings.Contains(hint.Of(err), "remove this object") {
				t.Errorf("of %.20q: the hint is %q", text, hint.Of(err))
			}
		}
	}
}

// The marks of publishes are told by their keys.
func TestPublishing(t *testing.T) {
	p := newPlace(t)
	m := p.open(t.TempDir())
	for _, key := range []string{mirror.MarksPrefix + "one", mirror.MarksPrefix + "two", ".ostree-upload/other"} {
		_, err := p.bucket.Put(t.Context(), key, []byte("{}"))
		must.OK(t, err)
	}
	keys, err := m.Publishing(t.Context())
	if err != nil || strings.Join(keys, " ") != mirror.MarksPrefix+"one "+mirror.MarksPrefix+"two" {
		t.Errorf("it tells %q, %v", keys, err)
	}
}
