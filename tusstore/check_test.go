// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/must"
)

// good is Check.
func (f *fixture) good(n ostree.Name) bool {
	f.t.Helper()
	good, err := f.Check(f.t.Context(), n)
	must.OK(f.t, err)
	return good
}

func (f *fixture) stagedPath(n ostree.Name) string {
	return filepath.Join(f.StagedPath(), "objects", n.Path())
}

// damage flips a bit of a staged object as a disk does: its times stay.
func (f *fixture) damage(n ostree.Name) {
	f.t.Helper()
	path := f.stagedPath(n)
	st, err := os.Stat(path)
	must.OK(f.t, err)
	b, err := os.ReadFile(path)
	must.OK(f.t, err)
	b[len(b)/2] ^= 1
	must.OK(f.t, os.WriteFile(path, b, 0o644))
	must.OK(f.t, os.Chtimes(path, time.Time{}, st.ModTime()))
}

// stage stages objects, one by a pack and one by an upload of its own.
func (f *fixture) stage() (packed, single ostree.Name) {
	f.t.Helper()
	packed, pb := dirmeta(f.t, 1)
	single, sb := dirmeta(f.t, 2)
	f.add(packed, single)
	p := pack(frame(packed, pb))
	f.send("p", len(p), p)
	f.send(single.String(), len(sb), sb)
	f.wait()
	return packed, single
}

// What this process verified a short time ago is not read again; all else is:
// what somebody wrote to, what was verified long ago, and what another process
// verified. What is bad goes, and what is good is trusted again.
func TestCheck(t *testing.T) {
	for _, noUnnamed := range []bool{false, true} {
		f := newFixture(t)
		f.Store.staged.noUnnamed = noUnnamed
		packed, single := f.stage()
		for _, n := range []ostree.Name{packed, single} {
			f.damage(n)
			if !f.good(n) {
				t.Error("read again right after it was verified")
			}
			f.damage(n) // which mends it
		}
		f.reopen()
		f.damage(packed)
		if f.good(packed) || !f.good(single) {
			t.Error("after a restart the bad one is good, or the good one bad")
		}
		if f.staged(packed) || !f.staged(single) {
			t.Error("the bad one is still staged, or the good one is not")
		}
		f.damage(single)
		if !f.good(single) {
			t.Error("read again right after it was found good")
		}
		must.OK(t, os.Chtimes(f.stagedPath(single), time.Time{}, f.Store.staged.stamp.on(time.Now().Add(-trustTime))))
		if f.good(single) || f.good(single) {
			t.Error("trusted after a long time")
		}
	}
}

// Whoever writes to a staged file takes its stamp away.
func TestCheckWritten(t *testing.T) {
	f := newFixture(t)
	packed, _ := f.stage()
	must.OK(t, os.WriteFile(f.stagedPath(packed), []byte("other"), 0o644))
	if f.good(packed) {
		t.Error("what was written to counts as good")
	}
}

// A stamp is trusted for its time, and not if it is of the future: a clock may have
// been set back.
func TestStampTrusts(t *testing.T) {
	s, now := newStamp(), time.Now()
	for age, want := range map[time.Duration]bool{0: true, trustTime - time.Second: true, trustTime: false, -time.Minute: false} {
		if got := s.trusts(unix.NsecToTimespec(s.on(now.Add(-age)).UnixNano()), now); got != want {
			t.Errorf("age %v: trusted %v", age, got)
		}
	}
	if s.trusts(unix.NsecToTimespec((s + 100).on(now).UnixNano()), now) {
		t.Error("another process's stamp is trusted")
	}
}

// A check that has to read ends with its context, and says nothing then.
func TestCheckEnds(t *testing.T) {
	f := newFixture(t)
	packed, _ := f.stage()
	f.reopen()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if good, err := f.Check(ctx, packed); good || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", good, err)
	}
	if !f.good(packed) {
		t.Error("it is gone")
	}
}

// An object that proved bad or missing can be uploaded again under its own name,
// and its bytes count again; an upload that is under way goes on.
func TestForget(t *testing.T) {
	f := newFixture(t)
	_, single := f.stage()
	_, b := dirmeta(t, 2)
	f.damage(single)
	must.OK(t, f.Forget(f.session, single))
	if f.staged(single) || f.offset(single.String()) != -1 {
		t.Errorf("staged %v, offset %d", f.staged(single), f.offset(single.String()))
	}
	before := f.counts().Received
	f.send(single.String(), len(b), b)
	f.wait()
	if !f.good(single) || f.counts().Received != before+int64(len(b)) {
		t.Errorf("good %v, %d bytes received, before %d", f.good(single), f.counts().Received, before)
	}
	other, ob := dirmeta(t, 3)
	f.add(other)
	f.send(other.String(), len(ob), ob[:5])
	must.OK(t, f.Forget(f.session, other))
	if f.offset(other.String()) != 5 {
		t.Errorf("the upload under way is at %d", f.offset(other.String()))
	}
}
