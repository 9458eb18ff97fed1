// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/test/must"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/hint"
)

// worked is the closed file of a journal with sessions of all sizes, and one of
// them.
func worked(t *testing.T) (path, id string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "journal.db")
	j := open(t, path)
	for n := range 20 {
		id = create(t, j)
		must.OK(t, j.Add(id, objects(n*400, n*400+300*(n%4), Missing)))
		if n%3 == 0 {
			move(t, j, id, Aborted)
			must.OK(t, j.Release(id))
		}
	}
	mustClose(t, j)
	return path, id
}

// use reads and writes all over a journal.
func use(j *Journal, id string) error {
	list, err := j.Sessions(nil)
	_, _, listed := j.List(Query{Limit: 100})
	_, needed := j.Needed(object(1), object(4000))
	errs := []error{err, listed, needed, j.Add(id, objects(0, 3000, Missing))}
	for _, s := range list {
		_, err := j.Session(s.ID)
		_, statuses := j.Statuses(s.ID, nil)
		errs = append(errs, err, statuses)
	}
	_, err = j.Create(Session{Token: "ci"}, week)
	return errors.Join(append(errs, err, j.Check())...)
}

// look reads a journal without a change of its file, whatever it says.
func look(t *testing.T, path, id string, content []byte) {
	t.Helper()
	if j, err := OpenToRead(path); err == nil {
		_, _, _ = j.List(Query{Limit: 100})
		_, _ = j.Session(id)
		_ = j.Close()
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, content) {
		t.Errorf("the file was changed by looking at it, %v", err)
	}
}

// Whatever page of the file is zeros, or other bytes, the journal is refused in one
// error that says which file it is and what to do, or can be used: no panic, in no
// goroutine.
func TestDamagedPages(t *testing.T) {
	path, id := worked(t)
	whole, err := os.ReadFile(path)
	must.OK(t, err)
	used, _, err := openTree(whole)
	must.OK(t, err)
	whole = whole[:used.pages*used.size]
	draw := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for at := 0; at < len(whole); at += os.Getpagesize() {
		for n, garble := range []func([]byte){
			func(page []byte) { clear(page) },
			func(page []byte) { page[draw.IntN(len(page))] ^= 1 << draw.IntN(8) },
			func(page []byte) {
				copy(page[8:], []byte{byte(draw.Uint32()), 0, byte(draw.Uint32()), byte(draw.Uint32())})
			},
			func(page []byte) { copy(page[16:], whole[:64]) },
		} {
			if n > 0 && at/os.Getpagesize()%3 != n-1 {
				continue // zeros everywhere, the rest in turn: enough, and quicker
			}
			bad := append([]byte(nil), whole...)
			garble(bad[at : at+os.Getpagesize()])
			path := filepath.Join(t.TempDir(), "journal.db")
			must.OK(t, os.WriteFile(path, bad, 0o600))
			look(t, path, id, bad)
			j, err := OpenFile(path)
			if err == nil {
				j.db.NoSync = true
				_ = use(j, id) // whatever it says
				_ = j.Close()
				continue
			}
			refused++
			if damaged := new(DamagedError); !errors.As(err, &damaged) || damaged.Path != path || !strings.Contains(hint.Of(err), "check --repair") {
				t.Errorf("bytes from %d: %v, hint %q", at, err, hint.Of(err))
			}
		}
	}
	if refused < 10 {
		t.Errorf("only %d damaged files were refused", refused)
	}
}

// Damage that comes while the journal is open, here a file that got shorter, ends
// the call and stops the journal: it is neither a crash nor silence.
func TestDamageWhileOpen(t *testing.T) {
	path, id := worked(t)
	j, err := OpenFile(path)
	must.OK(t, err)
	defer j.Close()
	must.OK(t, os.Truncate(path, int64(2*os.Getpagesize())))
	_, err = j.Session(id)
	if damaged := new(DamagedError); !errors.As(err, &damaged) {
		t.Fatalf("error is %v", err)
	}
	select {
	case <-j.Failed():
	default:
		t.Error("the journal goes on")
	}
	if err := j.Add(id, objects(0, 10, Missing)); !errors.Is(err, ErrStopped) {
		t.Errorf("writing after damage: %v", err)
	}
	if err := j.Err(); !errors.Is(err, ErrStopped) {
		t.Errorf("the journal calls itself sound: %v", err)
	}
}

// A file that another process holds is not read, and called held rather than
// damaged.
func TestDamageIsNotLookedForInUse(t *testing.T) {
	path, _ := worked(t)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must.OK(t, err)
	defer f.Close()
	must.OK(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	_, err = f.WriteAt(make([]byte, 4*os.Getpagesize()), int64(2*os.Getpagesize()))
	must.OK(t, err)
	if _, err := OpenFile(path); err == nil || !strings.Contains(err.Error(), "another process holds it") {
		t.Errorf("error is %v", err)
	}
}

// A journal that is set aside stays beside the new one, with its time.
func TestSetAside(t *testing.T) {
	path, _ := worked(t)
	if at, err := SetAsideAt(path); err != nil || !at.IsZero() {
		t.Errorf("set aside at %v, %v, and none was", at, err)
	}
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	aside, err := SetAside(path, now)
	must.OK(t, err)
	if _, err := os.Stat(aside); err != nil || aside != path+".damaged-20261123T100000Z" {
		t.Errorf("set aside as %s, %v", aside, err)
	}
	if at, err := SetAsideAt(path); err != nil || !at.Equal(now) {
		t.Errorf("set aside at %v, %v, want %v", at, err, now)
	}
	mustClose(t, open(t, path))
}
