// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tus/tusd/v2/pkg/handler"
	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/test/must"
)

// wantUnsent looks at what a token and the others have claimed.
func wantUnsent(t *testing.T, c *claims, token string, own, others int64) {
	t.Helper()
	gotOwn, gotOthers := c.unsent(token, time.Now())
	if gotOwn != own || gotOthers != others {
		t.Errorf("token %s: own %d, others %d, want %d and %d", token, gotOwn, gotOthers, own, others)
	}
}

// A claim counts in full against its own token, and against others only while its
// bytes are on their way.
func TestClaims(t *testing.T) {
	c := newClaims()
	c.set("s", "a", "p", progress{size: 100})
	c.set("s", "a", "q", progress{size: 50})
	c.set("u", "b", "p", progress{size: 7})
	wantUnsent(t, c, "a", 150, 0)
	wantUnsent(t, c, "b", 7, 0)
	c.arrived("s", "p", 10, time.Now())
	wantUnsent(t, c, "a", 140, 0)
	wantUnsent(t, c, "b", 7, 90)
	c.arrived("s", "p", 60, time.Now())
	wantUnsent(t, c, "b", 7, 40)
	c.sessions["s"].last = time.Now().Add(-idleTime)
	wantUnsent(t, c, "b", 7, 0)
	wantUnsent(t, c, "a", 90, 0)
	c.arrived("s", "p", 100, time.Now()) // whole
	wantUnsent(t, c, "b", 7, 0)
	c.set("s", "a", "q", progress{50, 20}) // found after a restart
	wantUnsent(t, c, "b", 7, 30)
	c.remove("s", "q")
	c.remove("s", "q")
	wantUnsent(t, c, "a", 0, 0)
	c.removeAll("u")
	c.arrived("u", "p", 7, time.Now()) // its sender did not know yet
	wantUnsent(t, c, "b", 0, 0)
	if len(c.list("u")) != 0 || len(c.sessions) != 1 {
		t.Errorf("%v", c.sessions)
	}
}

// The claims of an upload follow it from its creation, through a restart, to its
// end.
func TestClaimsOfUploads(t *testing.T) {
	f := newFixture(t)
	a, ab := dirmeta(t, 1)
	f.add(a)
	p := pack(frame(a, ab))
	f.send("cut", 1000, []byte("12345"))
	f.send("none", 1000, nil)
	f.send("p", len(p), p)
	f.wait()
	for range 2 {
		wantUnsent(t, f.claims, "ci", 1995, 0)
		wantUnsent(t, f.claims, "other", 0, 995)
		if f.claims.active(f.session).IsZero() {
			t.Error("no byte has come")
		}
		f.reopen()
	}
	must.OK(t, f.Salvage(t.Context(), f.session))
	f.wait()
	wantUnsent(t, f.claims, "ci", 0, 0)
	if left := f.Uploads(f.session); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

// Bytes that come are counted as they come, not at the end of their request.
func TestClaimsWhileBytesCome(t *testing.T) {
	f := newFixture(t)
	u, err := f.NewUpload(t.Context(), handler.FileInfo{ID: ID(f.session, "p"), Size: 100})
	must.OK(t, err)
	looked := make(chan int64, 1)
	body := readerFunc(func(b []byte) (int, error) {
		if at := f.Uploads(f.session)[0].Offset; at > 0 {
			looked <- at
			return 0, unix.ECONNRESET
		}
		return copy(b, "12345"), nil
	})
	if n, err := u.WriteChunk(t.Context(), 0, body); n != 5 || !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%d, %v", n, err)
	}
	if at := <-looked; at != 5 {
		t.Errorf("offset %d", at)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// Of many that create one upload at the same time, one does.
func TestCreateAtOnce(t *testing.T) {
	f := newFixture(t)
	for round := range 20 {
		var made, refused int
		var mu sync.Mutex
		var g sync.WaitGroup
		for range 8 {
			g.Go(func() {
				_, err := f.NewUpload(t.Context(), handler.FileInfo{ID: ID(f.session, fmt.Sprint("p", round)), Size: 10})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					made++
				} else if errors.Is(err, ErrExists) {
					refused++
				}
			})
		}
		g.Wait()
		if made != 1 || refused != 7 {
			t.Errorf("%d made, %d refused", made, refused)
		}
	}
}

// Free space is counted in fragments, not in the blocks that are best to read by;
// a file system that makes inodes as needed has enough.
func TestFree(t *testing.T) {
	if got := freeBytes(&unix.Statfs_t{Bavail: 10, Bsize: 1 << 20, Frsize: 4096}); got != 40960 {
		t.Errorf("%d bytes", got)
	}
	if got := freeBytes(&unix.Statfs_t{Bavail: 10, Bsize: 512}); got != 5120 {
		t.Errorf("%d bytes without a fragment size", got)
	}
	if got := freeInodes(&unix.Statfs_t{Files: 100, Ffree: 7}); got != 7 {
		t.Errorf("%d inodes", got)
	}
	if got := freeInodes(&unix.Statfs_t{}); got < 1<<40 {
		t.Errorf("%d inodes where they are made as needed", got)
	}
}

// The room is that of the disk with least of it, wherever links lead.
func TestRoomOfOtherDisk(t *testing.T) {
	f := newFixture(t)
	var shm, here unix.Statfs_t
	must.OK(t, errors.Join(unix.Statfs(f.dir, &here), unix.Statfs("/", &shm)))
	small, err := os.MkdirTemp("/dev/shm", "room")
	if err != nil || unix.Statfs(small, &shm) != nil || freeBytes(&shm) >= freeBytes(&here) {
		t.Skip("there is no smaller file system at /dev/shm")
	}
	t.Cleanup(func() { os.RemoveAll(small) })
	objects := f.cfg.Repo.Path() + "/objects"
	must.OK(t, os.RemoveAll(objects))
	must.OK(t, os.Symlink(small, objects))
	r, err := f.Room("ci")
	must.OK(t, err)
	if r.Bytes > freeBytes(&shm)+1<<20 {
		t.Errorf("%d bytes, on %s are %d", r.Bytes, small, freeBytes(&shm))
	}
	must.OK(t, os.Remove(objects))
	must.OK(t, os.Mkdir(objects, 0o755))
}

// A store whose parts are on two disks says so when it is opened.
func TestOpenOnTwoDisks(t *testing.T) {
	other, err := os.MkdirTemp("/dev/shm", "staged")
	if err != nil {
		t.Skip("there is no /dev/shm")
	}
	t.Cleanup(func() { os.RemoveAll(other) })
	f := newFixture(t)
	var a, b unix.Stat_t
	must.OK(t, errors.Join(unix.Stat(other, &a), unix.Stat(f.dir, &b)))
	if a.Dev == b.Dev {
		t.Skip("/dev/shm is no other file system")
	}
	dir := t.TempDir()
	must.OK(t, os.Symlink(other, dir+"/staged"))
	cfg := f.cfg
	cfg.Dir = dir
	if _, err = Open(t.Context(), cfg); !errors.Is(err, unix.EXDEV) || !strings.Contains(err.Error(), "no upload can become a staged object") {
		t.Errorf("error %v", err)
	}
	if left, err := fs.Glob(os.DirFS(dir), "uploads/*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
