// SPDX-License-Identifier: AGPL-3.0-or-later

package lastuse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lirios/ostree-upload/test/must"
)

// run opens the record of a folder and runs it until stop.
func run(t *testing.T, state string) (r *Record, stop func()) {
	t.Helper()
	r, err := Open(state, slog.New(slog.NewTextHandler(t.Output(), nil)))
	must.OK(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return r, func() {
		cancel()
		must.OK(t, <-ended)
	}
}

// wantKept checks what the file says.
func wantKept(t *testing.T, state string, want map[string]time.Time) {
	t.Helper()
	synctest.Wait()
	if got, err := Read(state); err != nil || !maps.EqualFunc(got, want, time.Time.Equal) {
		t.Errorf("the file says %v, %v, want %v", got, err, want)
	}
}

// TestWrites pins when the file is written: at the first use of a name, when what it
// says of one is a minute old, and at the end; and that a start knows what it says.
func TestWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state, start := t.TempDir(), time.Now()
		r, stop := run(t, state)
		if _, err := Read(state); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("before any use: %v", err)
		}
		r.Use("a")
		wantKept(t, state, map[string]time.Time{"a": start})

		r.Use("b") // within the same second
		wantKept(t, state, map[string]time.Time{"a": start})
		time.Sleep(leastGap)
		wantKept(t, state, map[string]time.Time{"a": start, "b": start})

		time.Sleep(oldAfter - 2*time.Second)
		r.Use("a")
		wantKept(t, state, map[string]time.Time{"a": start, "b": start})
		time.Sleep(time.Second)
		r.Use("a")
		minute := map[string]time.Time{"a": start.Add(oldAfter), "b": start}
		wantKept(t, state, minute)

		time.Sleep(5 * time.Second)
		r.Use("b")
		r.Use("c")
		r.Use("a")
		stop()
		end := start.Add(oldAfter + 5*time.Second)
		wantKept(t, state, map[string]time.Time{"a": end, "b": end, "c": end})

		again, stop := run(t, state)
		defer stop()
		if got := again.All(); len(got) != 3 || !got["b"].Equal(end) {
			t.Errorf("a start knows %v", got)
		}
	})
}

// TestFails pins that a write that fails is tried again later, and does no harm.
func TestFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := filepath.Join(t.TempDir(), "state")
		r, stop := run(t, state)
		defer stop()
		r.Use("a")
		synctest.Wait()
		must.OK(t, os.Mkdir(state, 0o700))
		r.Use("a")
		synctest.Wait()
		if _, err := Read(state); err == nil {
			t.Error("it is tried again at once")
		}
		time.Sleep(retryAfter)
		wantKept(t, state, map[string]time.Time{"a": time.Now().Add(-retryAfter)})
	})
}

// TestDamaged pins that a file that says nothing is told, and keeps no server down.
func TestDamaged(t *testing.T) {
	state := t.TempDir()
	must.OK(t, os.WriteFile(filepath.Join(state, File), nil, 0o600))
	if _, err := Read(state); err == nil || !strings.Contains(err.Error(), File+" is damaged") {
		t.Error(err)
	}
	var log strings.Builder
	r, err := Open(state, slog.New(slog.NewTextHandler(&log, nil)))
	must.OK(t, err)
	if len(r.All()) != 0 || !strings.Contains(log.String(), "not known any more") {
		t.Errorf("%v, log: %s", r.All(), &log)
	}
	r.Use("a")
}

// TestBound pins that of too many names those used last are remembered.
func TestBound(t *testing.T) {
	used := map[string]time.Time{}
	for i := range mostNames + 10 {
		used[fmt.Sprint(i)] = time.Unix(int64(i), 0)
	}
	forget(used)
	if _, first := used["9"]; first || len(used) != mostNames || used["10"].IsZero() {
		t.Errorf("%d names are left", len(used))
	}
}

// A stop on a disk that takes nothing more is a stop as any other.
func TestStopsOnAFullDisk(t *testing.T) {
	state := filepath.Join(t.TempDir(), "gone")
	must.OK(t, os.Mkdir(state, 0o700))
	r, err := Open(state, slog.New(slog.NewTextHandler(t.Output(), nil)))
	must.OK(t, err)
	must.OK(t, os.Remove(state))
	r.Use("a")
	<-r.due
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must.OK(t, r.Run(ctx))
}
