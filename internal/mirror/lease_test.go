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

// leaseOf writes the lease of a server that is not here.
func (p *place) leaseOf(until time.Time) string {
	p.t.Helper()
	text := `{"until": "` + until.Format(time.RFC3339Nano) + `"}`
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
	p := newPlace(t)
	m := p.open(t.TempDir())
	p.leaseOf(time.Now().Add(-time.Second))
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
	l.EndAt(time.Now().Add(time.Minute))
	must.OK(t, l.Renew(t.Context()))
	must.OK(t, l.Renew(t.Context()))
	if n := len(p.proxy.Requests()); n != 1 {
		t.Errorf("one that soon ends took %d requests", n)
	}
	l.EndAt(time.Now().Add(-time.Second))
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
	other := p.leaseOf(time.Now().Add(time.Hour))
	l.EndAt(time.Now().Add(time.Minute))
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
			l.EndAt(time.Now().Add(time.Minute))
			p.proxy.Play(func(store.Request) *store.Fault { return store.Denied })
			if err := l.Renew(t.Context()); err == nil || errors.Is(err, mirror.ErrPruning) {
				t.Errorf("renewing it: %v", err)
			}
			p.proxy.Play(nil)
			left := ""
			if lost {
				left = p.leaseOf(time.Now().Add(time.Hour))
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
	for _, text := range []string{"", "x", "[]", `{"until": "soon"}`, strings.Repeat(" ", 1<<20)} {
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
