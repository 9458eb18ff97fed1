// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tus/tusd/v2/pkg/handler"
	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/test/must"
)

// The store cannot use package test/server, which uses the store: these are its
// few helpers.

// fixture is a store over a journal with one session, and what is in the set.
type fixture struct {
	*Store
	t       *testing.T
	dir     string
	session string
	stop    func()
	crashed bool // the next stop leaves no mark
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir()}
	f.open()
	s, err := f.cfg.Journal.Create(journal.Session{Refs: []wire.Ref{{Ref: "x"}}, Token: "ci"}, time.Hour)
	must.OK(t, err)
	f.session = s.ID
	t.Cleanup(func() {
		must.OK(t, f.cfg.Journal.Check())
		f.stop()
	})
	return f
}

// open opens journal and store and starts the workers.
func (f *fixture) open() {
	f.t.Helper()
	j, err := journal.OpenFile(filepath.Join(f.dir, "journal.db"))
	must.OK(f.t, err)
	log := slog.New(slog.NewTextHandler(f.t.Output(), nil))
	path := filepath.Join(f.dir, "prod")
	empty, err := openStaged(path) // an archive is an archive
	must.OK(f.t, err)
	must.OK(f.t, empty.close())
	repo, err := ostree.OpenRepo(path)
	must.OK(f.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	f.Store, err = Open(ctx, Config{Dir: f.dir, Repo: repo, Journal: j, Workers: 2, Limits: func() Limits { return Limits{} }, Log: log})
	must.OK(f.t, err)
	done := make(chan error)
	store := f.Store
	go func() { done <- store.Run(ctx) }()
	f.stop = func() {
		cancel()
		must.OK(f.t, <-done)
		must.OK(f.t, store.Close(!f.crashed))
		must.OK(f.t, j.Close())
	}
}

func (f *fixture) reopen() {
	f.stop()
	f.open()
}

// crash leaves the journal as a killed process does, then opens all again.
func (f *fixture) crash() {
	f.t.Helper()
	path := filepath.Join(f.dir, "journal.db")
	copy, err := os.ReadFile(path)
	must.OK(f.t, err)
	f.crashed = true
	f.stop()
	f.crashed = false
	must.OK(f.t, os.WriteFile(path, copy, 0o600))
	f.open()
}

func (f *fixture) add(names ...ostree.Name) {
	f.t.Helper()
	var entries []journal.Entry
	for _, n := range names {
		entries = append(entries, journal.Entry{Name: n, Status: journal.Missing})
	}
	must.OK(f.t, f.cfg.Journal.Add(f.session, entries))
}

// send creates an upload and writes b; complete ones are handed to the workers.
func (f *fixture) send(name string, size int, b []byte) {
	f.t.Helper()
	ctx := f.t.Context()
	u, err := f.NewUpload(ctx, handler.FileInfo{ID: ID(f.session, name), Size: int64(size)})
	must.OK(f.t, err)
	n, err := u.WriteChunk(ctx, 0, bytes.NewReader(b))
	must.OK(f.t, err)
	if int(n) == size {
		must.OK(f.t, u.FinishUpload(ctx))
	}
}

func (f *fixture) offset(name string) int64 {
	f.t.Helper()
	u, err := f.GetUpload(f.t.Context(), ID(f.session, name))
	if errors.Is(err, handler.ErrNotFound) {
		return -1
	}
	must.OK(f.t, err)
	fi, err := u.GetInfo(f.t.Context())
	must.OK(f.t, err)
	return fi.Offset
}

func (f *fixture) wait() {
	f.t.Helper()
	must.OK(f.t, f.Wait(f.t.Context(), f.session))
}

func (f *fixture) staged(n ostree.Name) bool {
	f.t.Helper()
	there, err := f.Has(n)
	must.OK(f.t, err)
	return there
}

func (f *fixture) counts() journal.Counts {
	f.t.Helper()
	s, err := f.cfg.Journal.Session(f.session)
	must.OK(f.t, err)
	return s.Counts
}

// dirmeta makes one of many small objects.
func dirmeta(t *testing.T, uid byte) (ostree.Name, []byte) {
	t.Helper()
	b := []byte{0, 0, 0, uid, 0, 0, 0, 0, 0, 0, 0x41, 0xed} // uid, gid, drwxr-xr-x; no xattrs
	return ostree.Name{Checksum: sha256.Sum256(b), Type: ostree.DirMeta}, b
}

func pack(frames ...[]byte) []byte {
	return slices.Concat(append([][]byte{[]byte(wire.PackMagic)}, frames...)...)
}

func frame(n ostree.Name, b []byte) []byte {
	return append(wire.AppendFrameHeader(nil, n, int64(len(b))), b...)
}

// A pack becomes objects that a web server may read, whatever the umask; its
// bytes go, and its offset stays.
func TestIngestPack(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	for _, noTmpfile := range []bool{false, true} {
		f := newFixture(t)
		f.Store.staged.noUnnamed = noTmpfile
		a, ab := dirmeta(t, 1)
		b, bb := dirmeta(t, 2)
		f.add(a, b)
		p := pack(frame(a, ab), frame(b, bb), frame(a, ab))
		f.send("p", len(p), p)
		f.wait()
		for _, n := range []ostree.Name{a, b} {
			st, err := os.Stat(filepath.Join(f.StagedPath(), "objects", n.Path()))
			must.OK(t, err)
			if st.Mode() != 0o644 {
				t.Errorf("mode %v", st.Mode())
			}
		}
		if f.offset("p") != int64(len(p)) {
			t.Errorf("offset %d, want %d", f.offset("p"), len(p))
		}
		if _, err := os.Stat(f.dataPath(f.session, "p")); !os.IsNotExist(err) {
			t.Error("the bytes are still there")
		}
		if c := f.counts(); c.Staged != 2 || c.Received != int64(len(p)) {
			t.Errorf("%+v", c)
		}
	}
}

// A single object is moved, not copied.
func TestIngestObject(t *testing.T) {
	f := newFixture(t)
	a, ab := dirmeta(t, 1)
	f.add(a)
	u, err := f.NewUpload(t.Context(), handler.FileInfo{ID: ID(f.session, a.String()), Size: int64(len(ab))})
	must.OK(t, err)
	_, err = u.WriteChunk(t.Context(), 0, bytes.NewReader(ab))
	must.OK(t, err)
	before, err := os.Stat(f.dataPath(f.session, a.String()))
	must.OK(t, err)
	must.OK(t, u.FinishUpload(t.Context()))
	f.wait()
	after, err := os.Stat(filepath.Join(f.StagedPath(), "objects", a.Path()))
	must.OK(t, err)
	if !os.SameFile(before, after) || after.Mode() != 0o644 {
		t.Errorf("not the same file, or of mode %v", after.Mode())
	}
}

// Whatever step of the ingest a kill comes after, the next process ends with
// the object staged, the upload complete, and its bytes counted once.
func TestKilledIngest(t *testing.T) {
	for _, kind := range []string{"pack", "object"} {
		for _, step := range []string{"before", "after recording"} {
			t.Run(kind+" "+step, func(t *testing.T) {
				f := newFixture(t)
				a, ab := dirmeta(t, 1)
				f.add(a)
				name, b := a.String(), ab
				if kind == "pack" {
					name, b = "p", pack(frame(a, ab))
				}
				info := handler.FileInfo{ID: ID(f.session, name), Size: int64(len(b))}
				u, err := f.NewUpload(t.Context(), info)
				must.OK(t, err)
				_, err = u.WriteChunk(t.Context(), 0, bytes.NewReader(b))
				must.OK(t, err)
				before, err := os.ReadFile(f.infoPath(f.session, name))
				must.OK(t, err)
				if step != "before" {
					must.OK(t, u.FinishUpload(t.Context()))
					f.wait()
					// The .info not marked yet; a pack's bytes not dropped yet.
					must.OK(t, os.WriteFile(f.infoPath(f.session, name), before, 0o600))
					if kind == "pack" {
						must.OK(t, os.WriteFile(f.dataPath(f.session, name), b, 0o600))
					}
				}
				f.crash()
				if got := f.offset(name); got != int64(len(b)) {
					t.Errorf("offset %d, want %d", got, len(b))
				}
				f.wait()
				if !f.staged(a) || f.counts().Received != int64(len(b)) || f.counts().Staged != 1 || len(f.Uploads(f.session)) != 0 {
					t.Errorf("staged %v, %+v, %v", f.staged(a), f.counts(), f.Uploads(f.session))
				}
			})
		}
	}
}

// A killed ingest that had moved the object and recorded nothing costs nothing.
func TestKilledBetweenMoveAndRecord(t *testing.T) {
	f := newFixture(t)
	a, ab := dirmeta(t, 1)
	f.add(a)
	u, err := f.NewUpload(t.Context(), handler.FileInfo{ID: ID(f.session, a.String()), Size: int64(len(ab))})
	must.OK(t, err)
	_, err = u.WriteChunk(t.Context(), 0, bytes.NewReader(ab))
	must.OK(t, err)
	must.OK(t, f.Store.staged.move(a, f.dataPath(f.session, a.String())))
	f.crash()
	f.wait()
	if f.offset(a.String()) != int64(len(ab)) || f.counts().Staged != 1 {
		t.Errorf("offset %d, %+v", f.offset(a.String()), f.counts())
	}
}

// After an unclean stop an object whose bytes were lost is not trusted; after
// a clean one nothing is read.
func TestUncleanStop(t *testing.T) {
	f := newFixture(t)
	a, ab := dirmeta(t, 1)
	b, bb := dirmeta(t, 2)
	f.add(a, b)
	p := pack(frame(a, ab), frame(b, bb))
	f.send("p", len(p), p)
	f.wait()
	path := filepath.Join(f.StagedPath(), "objects", a.Path())
	must.OK(t, os.Truncate(path, 0))
	must.OK(t, os.WriteFile(filepath.Join(filepath.Dir(path), tempPrefix+"1"), ab, 0o600))
	f.reopen()
	if !f.staged(a) {
		t.Error("verified again after a clean stop")
	}
	f.crash()
	if f.staged(a) || !f.staged(b) {
		t.Errorf("staged: lost %v, whole %v", f.staged(a), f.staged(b))
	}
	if c := f.counts(); c.Known != 2 || c.Missing() != 1 {
		t.Errorf("the lost one is not counted as missing: %+v", c)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), tempPrefix+"*"))
	must.OK(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What belongs to no upload, or to a session that has ended, goes at the start.
func TestRecoverDropsOrphans(t *testing.T) {
	f := newFixture(t)
	a, _ := dirmeta(t, 1)
	f.add(a)
	f.send("cut", 100, []byte("12345"))
	f.send("broken", 100, []byte("12345"))
	must.OK(t, os.WriteFile(f.infoPath(f.session, "broken"), []byte("{"), 0o600))
	orphan := f.dataPath(f.session, "orphan")
	temp := f.dataPath(f.session, ".cut.info.123")
	ended := filepath.Join(f.dir, "uploads", "aaaaaaaaaaaaaaaa")
	must.OK(t, os.Mkdir(ended, 0o700))
	for _, path := range []string{orphan, temp, filepath.Join(ended, "p")} {
		must.OK(t, os.WriteFile(path, nil, 0o600))
	}
	_, notes, err := Inspect(t.Context(), f.cfg)
	must.OK(t, err)
	for _, word := range []string{"file orphan of", "file .cut.info.123 of", "session aaaaaaaaaaaaaaaa, which has ended"} {
		if !strings.Contains(strings.Join(notes, "\n"), word) {
			t.Errorf("no note of %s: %v", word, notes)
		}
	}
	f.reopen()
	for _, path := range []string{orphan, temp, ended, f.dataPath(f.session, "broken")} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is still there", filepath.Base(path))
		}
	}
	if f.offset("cut") != 5 || f.offset("broken") != -1 {
		t.Errorf("offsets %d, %d", f.offset("cut"), f.offset("broken"))
	}
	if got := f.Uploads(f.session); !slices.Equal(got, []wire.Upload{{Name: "cut", Offset: 5, Size: 100}}) {
		t.Errorf("uploads %v", got)
	}
}

// Creating an upload again keeps the first; one can be ended and made anew.
func TestCreateTwice(t *testing.T) {
	f := newFixture(t)
	f.send("p", 10, []byte("12345"))
	info := handler.FileInfo{ID: ID(f.session, "p"), Size: 10}
	if _, err := f.NewUpload(t.Context(), info); !errors.Is(err, ErrExists) {
		t.Errorf("second creation: %v", err)
	}
	if f.offset("p") != 5 {
		t.Errorf("offset %d", f.offset("p"))
	}
	u, err := f.GetUpload(t.Context(), info.ID)
	must.OK(t, err)
	must.OK(t, f.AsTerminatableUpload(u).Terminate(t.Context()))
	if f.offset("p") != -1 {
		t.Error("still there")
	}
	f.send("p", 10, []byte("1"))
}

// IDs from URLs stay within the store.
func TestSplitID(t *testing.T) {
	object := strings.Repeat("a", 64) + ".filez"
	for id, ok := range map[string]bool{
		"k3xq7mpl2wbz5aen/pack-7": true, "k3xq7mpl2wbz5aen/" + object: true,
		"k3xq7mpl2wbz5aen/..": false, "../x": false, "k3xq7mpl2wbz5aen": false, "k3xq7mpl2wbz5aen/": false,
		"k3xq7mpl2wbz5aen/p/q": false, "k3xq7mpl2wbz5aen/p.info": false, "": false, "/": false,
	} {
		if _, _, got := SplitID(id); got != ok {
			t.Errorf("%q: %v", id, got)
		}
	}
}

// An upload that fails to be ingested stays, is tried again, and then says so.
func TestIngestFails(t *testing.T) {
	f := newFixture(t)
	a, ab := dirmeta(t, 1)
	f.add(a)
	p := pack(frame(a, ab))
	// The data as a folder: reading fails, as it would on a bad disk.
	_, err := f.NewUpload(t.Context(), handler.FileInfo{ID: ID(f.session, "p"), Size: int64(len(p))})
	must.OK(t, err)
	must.OK(t, os.Mkdir(f.dataPath(f.session, "p"), 0o700))
	f.push(f.session, "p")
	if err := f.Wait(t.Context(), f.session); err == nil || !strings.Contains(err.Error(), "upload p") {
		t.Errorf("waiting for a failing ingest: %v", err)
	}
	must.OK(t, os.Remove(f.dataPath(f.session, "p")))
	must.OK(t, os.WriteFile(f.dataPath(f.session, "p"), p, 0o600))
	f.wait()
	if !f.staged(a) {
		t.Error("not staged once the disk is well again")
	}
}

// A full disk has a status of its own, and what was written counts.
func TestNoSpace(t *testing.T) {
	f := newFixture(t)
	u, err := f.NewUpload(t.Context(), handler.FileInfo{ID: ID(f.session, "p"), Size: 10})
	must.OK(t, err)
	n, err := u.WriteChunk(t.Context(), 0, io.MultiReader(strings.NewReader("12345"), failing{unix.ENOSPC}))
	if n != 5 || !errors.Is(err, errNoSpace) || f.offset("p") != 5 {
		t.Errorf("%d, %v, offset %d", n, err, f.offset("p"))
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// An upload that cannot be looked up is in the log with its cause: the answer to
// HEAD has no room for it.
func TestUnreadableInfo(t *testing.T) {
	f := newFixture(t)
	f.send("p", 10, []byte("12345"))
	must.OK(t, os.WriteFile(f.infoPath(f.session, "p"), []byte("{"), 0o600))
	var log strings.Builder
	f.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	if _, err := f.GetUpload(t.Context(), ID(f.session, "p")); err == nil || !strings.Contains(log.String(), err.Error()) {
		t.Errorf("error %v, log %q", err, &log)
	}
}
