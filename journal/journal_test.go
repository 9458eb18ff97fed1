// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
)

const week = 168 * time.Hour

// open opens the journal at path; at the end of the test the journal is checked
// and closed.
func open(t testing.TB, path string) *Journal {
	t.Helper()
	j, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if j.closed {
			return
		}
		if err := j.Check(); err != nil {
			t.Error("check:", err)
		}
		if err := j.Close(); err != nil {
			t.Error("close:", err)
		}
	})
	return j
}

func newJournal(t testing.TB) *Journal {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "journal.db"))
}

func mustClose(t testing.TB, j *Journal) {
	t.Helper()
	if err := errors.Join(j.Check(), j.Close()); err != nil {
		t.Fatal(err)
	}
}

// create opens a session in j and gives its ID.
func create(t testing.TB, j *Journal) string {
	t.Helper()
	s, err := j.Create(Session{Token: "ci", Refs: []wire.Ref{{Ref: "os/stable", New: object(0).Checksum.String()}}}, week)
	if err != nil {
		t.Fatal(err)
	}
	return s.ID
}

func session(t testing.TB, j *Journal, id string) Session {
	t.Helper()
	s, err := j.Session(id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func move(t testing.TB, j *Journal, id string, states ...State) {
	t.Helper()
	for _, s := range states {
		if _, err := j.Move(id, s, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// object gives the same name of a file for the same number.
func object(n int) ostree.Name {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	return ostree.Name{Checksum: sum, Type: ostree.File}
}

// objects gives the objects from to to-1, all of one status.
func objects(from, to int, status Status) []Entry {
	var list []Entry
	for n := from; n < to; n++ {
		list = append(list, Entry{object(n), status})
	}
	return list
}

// upload is one that brings the objects from to to-1, of 10 bytes each.
func upload(name string, from, to int) Upload {
	up := Upload{Name: name, Size: int64(to-from) * 12}
	for n := from; n < to; n++ {
		up.Objects = append(up.Objects, Result{Name: object(n), Size: 10, Inflated: 20})
	}
	return up
}

func wantStateError(t testing.TB, err error, from, to State) {
	t.Helper()
	var e *StateError
	if !errors.As(err, &e) || e.From != from || e.To != to {
		t.Errorf("error is %v, want a StateError from %q to %q", err, from, to)
	}
}

func TestFileIsPrivate(t *testing.T) {
	j := newJournal(t)
	info, err := os.Stat(j.path)
	must.OK(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v", info.Mode())
	}
	left, err := filepath.Glob(j.path + ".*")
	must.OK(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A journal of the build before, which kept the mark of a clean stop here, opens,
// and loses the mark: an older build must not find it after a crash of this one.
func TestOldCleanMark(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, path)
	must.OK(t, j.update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		return errors.Join(tx.DeleteBucket(worksBucket), meta.Put(cleanKey, []byte{1}), meta.Put(versionKey, []byte("1")))
	}))
	must.OK(t, j.Close())
	j = open(t, path)
	must.OK(t, j.db.View(func(tx *bbolt.Tx) error {
		if tx.Bucket(worksBucket) == nil || tx.Bucket(metaBucket).Get(cleanKey) != nil {
			t.Error("the file is still of the older form")
		}
		return nil
	}))
	mustClose(t, j)
	must.OK(t, j.Close()) // again
}

// copyOf copies a file, as a crash at this moment would leave it.
func copyOf(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must.OK(t, err)
	to := filepath.Join(t.TempDir(), "copy.db")
	must.OK(t, os.WriteFile(to, b, 0o600))
	return to
}

func TestOpenRefuses(t *testing.T) {
	raw := func(t *testing.T, path string, fn func(*bbolt.Tx) error) {
		db, err := bbolt.Open(path, 0o600, nil)
		must.OK(t, err)
		must.OK(t, errors.Join(db.Update(fn), db.Close()))
	}
	tests := []struct {
		name    string
		prepare func(t *testing.T, path string)
		want    string
	}{
		{"another holder", func(t *testing.T, path string) { open(t, path) }, "another process holds it"},
		{"a later schema", func(t *testing.T, path string) {
			mustClose(t, open(t, path))
			raw(t, path, func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(versionKey, []byte("7")) })
		}, `schema version "7", this build knows "3" only`},
		{"another database", func(t *testing.T, path string) {
			raw(t, path, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("mail")); return err })
		}, "no journal of ostree-upload"},
		{"no database", func(t *testing.T, path string) {
			must.OK(t, os.WriteFile(path, []byte(strings.Repeat("x", 9000)), 0o600))
		}, "neither of its meta pages is one"},
		{"no folder", func(t *testing.T, path string) { must.OK(t, os.Remove(filepath.Dir(path))) }, "no such file"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state", "journal.db")
			must.OK(t, os.Mkdir(filepath.Dir(path), 0o700))
			test.prepare(t, path)
			_, err := OpenFile(path)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error is %v, want %q and the path", err, test.want)
			}
		})
	}
}

// A disk that failed once is not written to again, and the stop is not clean.
func TestFailedCommitStops(t *testing.T) {
	j := newJournal(t)
	path, id := j.path, create(t, j)
	must.OK(t, j.Add(id, objects(0, 10, Missing)))
	j.db.MaxSize = 1 << 16
	if err := j.Add(id, objects(10, 20_000, Missing)); err == nil {
		t.Fatal("a commit beyond the file's limit succeeded")
	}
	j.db.MaxSize = 0
	if _, err := j.Move(id, Verifying, nil); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("writing after a failed commit: %v", err)
	}
	if c := session(t, j, id).Counts; c.Known != 10 {
		t.Errorf("known is %d", c.Known)
	}
	if j.Close() == nil {
		t.Error("Close hides the failure")
	}
	j = open(t, path)
	if c := session(t, j, id).Counts; c.Known != 10 {
		t.Errorf("known is %d after reopening", c.Known)
	}
	must.OK(t, j.Add(id, objects(5, 500, Missing)))
}

// Check must see what is wrong, or every other test's check means nothing.
func TestCheckFinds(t *testing.T) {
	tests := []struct {
		name   string
		damage func(tx *bbolt.Tx, id string) error
		want   string
	}{
		{"counts", func(tx *bbolt.Tx, id string) error {
			return writeCounts(tx, id, Counts{Known: 300, Staged: 1})
		}, "counts say"},
		{"state", func(tx *bbolt.Tx, id string) error {
			return tx.Bucket(sessionsBucket).Put([]byte(id), []byte(`{"state":"paused"}`))
		}, `"paused" is unknown`},
		{"status", func(tx *bbolt.Tx, id string) error {
			b := tx.Bucket(setsBucket).Bucket([]byte(id)).Bucket(statusBucket)
			return b.Put(chunkKey(1), make([]byte, 60))
		}, "status 0 is unknown"},
		{"live", func(tx *bbolt.Tx, id string) error { return tx.Bucket(liveBucket).Delete([]byte(id)) }, "listed as live: false"},
		{"set", func(tx *bbolt.Tx, id string) error { return tx.Bucket(setsBucket).DeleteBucket([]byte(id)) }, "no object set"},
		{"newest", func(tx *bbolt.Tx, id string) error {
			return tx.Bucket(newestBucket).Put([]byte("12345678nosuchsession"), nil)
		}, "2 in bucket newest"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			j, err := OpenFile(filepath.Join(t.TempDir(), "journal.db"))
			must.OK(t, err)
			defer j.Close()
			id := create(t, j)
			must.OK(t, j.Add(id, objects(0, 300, Missing)))
			must.OK(t, j.Check())
			must.OK(t, j.update(func(tx *bbolt.Tx) error { return test.damage(tx, id) }))
			if err := j.Check(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("check says %v, want %q", err, test.want)
			}
		})
	}
}

func ExampleStateError() {
	fmt.Println(&StateError{ID: "k3xq7mpl2wbz5aen", From: Published})
	fmt.Println(&StateError{ID: "k3xq7mpl2wbz5aen", From: Failed, To: Open})
	// Output:
	// session k3xq7mpl2wbz5aen is published
	// session k3xq7mpl2wbz5aen is failed and cannot become open
}
