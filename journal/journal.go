// SPDX-License-Identifier: AGPL-3.0-or-later

// Package journal records how far each push session has come: its state, the
// refs that it moves, the objects that belong to it and what is known of each.
// On restart it is the only authority; files in staging are evidence.
//
//   - A state never vouches for bytes that are not durable: callers sync what a
//     record speaks of before they make the record.
//   - What a method recorded is durable when it returns, whole or not at all.
//   - A ref moves only while its session is Publishing.
//   - Every step may be repeated: recording what is recorded changes nothing.
//   - Counts belong to the transaction that changes what they count, so that
//     reading them never scans a set.
//   - After a failed commit nothing more is recorded: the disk cannot be
//     trusted, and the process should end.
//
// Sizes and offsets are bytes, times are UTC. One process holds the file; its
// goroutines may call every method at the same time. Functions that a method
// is given run inside a transaction and must not call the journal.
//
// # File
//
// The file is a bbolt database with these buckets:
//
//	meta      "version"
//	sessions  id -> JSON of record
//	counts    id -> Counts, eight bytes each, big endian
//	newest    creation time (ns, big endian), id -> nothing
//	live      id of each session that is not in a final state -> nothing
//	problems  id -> bucket: object -> code, NUL, reason
//	works     kind -> JSON of Work: what is to follow a publish
//	sets      id -> bucket, gone once the session is released:
//	            names       chunk number -> 33 bytes for each object: checksum, type
//	            status      chunk number -> 1 byte for each object
//	            commitmeta  checksum of the commit -> bytes
//	            uploads     upload name -> bytes received, 8 bytes big endian
//
// The objects of a set are numbered in the order in which they came, so that
// adding many, or recording a pack, writes a few pages only, however large the
// set is. (Keyed by checksum, each batch would write nearly every page of it.)
// An index in memory, 11 to 22 bytes for each object, leads from names to
// numbers; it is made from the file at the first use of a set and dropped at its
// release.
package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/fault"
)

const (
	schema      = "1"
	lockTimeout = time.Second
)

var (
	metaBucket     = []byte("meta")
	sessionsBucket = []byte("sessions")
	countsBucket   = []byte("counts")
	newestBucket   = []byte("newest")
	liveBucket     = []byte("live")
	problemsBucket = []byte("problems")
	worksBucket    = []byte("works")
	setsBucket     = []byte("sets")

	versionKey = []byte("version")
	// cleanKey was here until the mark of a clean stop went to the staging. It is
	// removed, so that no older build takes a stop of this one for a clean one.
	cleanKey = []byte("clean")
)

// ErrNotFound is for a session that the journal does not know.
var ErrNotFound = errors.New("no such session")

// ErrStopped is for every write after a commit that failed: the disk cannot be
// trusted any more.
var ErrStopped = errors.New("the journal stopped after a failed commit")

// errUnchanged ends a write transaction that has nothing to write.
var errUnchanged = errors.New("unchanged")

// Journal is an open journal file.
type Journal struct {
	db   *bbolt.DB
	path string
	now  func() time.Time

	writing sync.Mutex // held by the one writer; guards failed and closed
	failed  error
	closed  bool
	stopped chan struct{} // closed once failed is set

	watching sync.Mutex
	watchers map[string]chan struct{}

	indexing sync.Mutex
	indexes  map[string]*index
}

// options: the list of free pages is rebuilt at opening rather
// than written with each commit, and the address space is reserved at once,
// because growing it would wait for every reader, and Each can be a long one.
func options() *bbolt.Options {
	reserve := 256 << 20
	if bits.UintSize == 64 {
		reserve = 4 << 30
	}
	return &bbolt.Options{
		Timeout:         lockTimeout,
		NoFreelistSync:  true,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: reserve,
	}
}

// OpenFile opens the journal at path and makes it, mode 0600, if there is none. It
// fails if another process holds it, and if it is of a schema that this build
// does not know.
func OpenFile(path string) (*Journal, error) {
	if err := createFile(path); err != nil {
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	db, err := openDB(path)
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	j := &Journal{
		db: db, path: path, now: time.Now,
		watchers: map[string]chan struct{}{}, stopped: make(chan struct{}),
		indexes: map[string]*index{},
	}
	if err := j.update(j.start); err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", path, err), db.Close())
	}
	return j, nil
}

// start checks the schema, and brings the file of an older build up to it.
func (j *Journal) start(tx *bbolt.Tx) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		return errors.New("this is no journal of ostree-upload")
	}
	if v := meta.Get(versionKey); string(v) != schema {
		return fmt.Errorf("schema version %q, this build knows %q only", v, schema)
	}
	if meta.Get(cleanKey) == nil && tx.Bucket(worksBucket) != nil {
		return errUnchanged
	}
	_, err := tx.CreateBucketIfNotExists(worksBucket)
	return errors.Join(err, meta.Delete(cleanKey))
}

// Close closes the file. The error is ErrStopped if a commit has failed. Closing
// twice is not an error.
func (j *Journal) Close() error {
	j.writing.Lock()
	defer j.writing.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	return errors.Join(j.stoppedBy(), j.db.Close())
}

// update runs fn in a write transaction. Nothing is written if fn fails; if it
// fails with errUnchanged, that is success.
func (j *Journal) update(fn func(*bbolt.Tx) error) error {
	j.writing.Lock()
	defer j.writing.Unlock()
	if err := j.stoppedBy(); err != nil {
		return err
	}
	tx, err := j.db.Begin(true)
	if err != nil {
		return fmt.Errorf("begin in journal: %w", err)
	}
	defer tx.Rollback()
	if err := fn(tx); errors.Is(err, errUnchanged) {
		return nil
	} else if err != nil {
		return err
	}
	if err := fault.Point("journal commit", tx.Commit); err != nil {
		if !harmless(err) {
			j.failed = err
			close(j.stopped)
		}
		return fmt.Errorf("commit to journal: %w", err)
	}
	return nil
}

// harmless tells whether a commit failed only because a write found no space:
// bbolt writes all pages before the one that makes them count, and nothing was
// lost. A sync that fails, for whatever reason, is another matter.
func harmless(err error) bool {
	var failed *fs.PathError
	return errors.As(err, &failed) && failed.Op == "write" &&
		(errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT))
}

// Failed is closed when the journal stops: nothing more can be recorded, and
// the process should end.
func (j *Journal) Failed() <-chan struct{} { return j.stopped }

// Err tells why the journal cannot be used, or nil.
func (j *Journal) Err() error {
	j.writing.Lock()
	defer j.writing.Unlock()
	if err := j.stoppedBy(); err != nil {
		return err
	}
	return j.db.View(func(*bbolt.Tx) error { return nil })
}

// stoppedBy is the failure that stopped the journal, or nil. The caller holds
// writing.
func (j *Journal) stoppedBy() error {
	if j.failed == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrStopped, j.failed)
}
