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
//   - After a failed commit, or damage in the file, nothing more is recorded: the
//     disk cannot be trusted, and the process should end.
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
//	sessions  id -> JSON of record, with the first few refs
//	counts    id -> Counts, eight bytes each, big endian
//	newest    creation time (ns, big endian), id -> nothing
//	own       token, NUL, creation time, id -> nothing
//	live      id of each session that is not in a final state -> token
//	refs      token, NUL, creation time, id -> JSON of all refs, if the record
//	          has not all of them
//	reflog    ref, NUL, time of the publish (ns, big endian), id -> flags, both
//	          commits, token, and after a NUL who had it published: how a
//	          ref moved
//	moved     token -> bucket: creation time, id -> time of the publish, names of
//	          the refs that moved, NUL between them
//	problems  id -> bucket: object -> code, NUL, reason
//	works     name -> JSON of work: what is to follow publishes
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
	"os"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/fault"
)

const (
	schema      = "3"
	schemaOne   = "1" // these are brought up to it
	schemaTwo   = "2"
	lockTimeout = time.Second
)

var (
	metaBucket     = []byte("meta")
	sessionsBucket = []byte("sessions")
	countsBucket   = []byte("counts")
	newestBucket   = []byte("newest")
	ownBucket      = []byte("own")
	liveBucket     = []byte("live")
	refsBucket     = []byte("refs")
	reflogBucket   = []byte("reflog")
	movedBucket    = []byte("moved")
	problemsBucket = []byte("problems")
	worksBucket    = []byte("works")
	setsBucket     = []byte("sets")

	buckets = [][]byte{
		metaBucket, sessionsBucket, countsBucket, newestBucket, ownBucket, liveBucket, refsBucket,
		reflogBucket, movedBucket, problemsBucket, worksBucket, setsBucket,
	}

	versionKey = []byte("version")
	// cleanKey was here until the mark of a clean stop went to the staging. It is
	// removed, so that no older build takes a stop of this one for a clean one.
	cleanKey = []byte("clean")
)

// ErrNotFound is for a session that the journal does not know.
var ErrNotFound = errors.New("no such session")

// ErrStopped is for every write after a commit that failed, or after damage was
// met: the disk cannot be trusted any more.
var ErrStopped = errors.New("the journal stopped")

// errUnchanged ends a write transaction that has nothing to write.
var errUnchanged = errors.New("unchanged")

// Journal is an open journal file.
type Journal struct {
	db   *bbolt.DB
	file *os.File // of db
	path string
	now  func() time.Time

	writing sync.Mutex // held by the one writer; guards closed
	closed  bool

	beginning sync.Mutex // held while a transaction begins

	stopping sync.Mutex // guards failed and broken
	failed   error
	broken   bool          // bbolt panicked: it may hold locks of its own for ever
	stopped  chan struct{} // closed once failed is set

	watching sync.Mutex
	watchers map[string]chan struct{}

	tally tally

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
	opt := options()
	var file *os.File
	opt.OpenFile = func(path string, flag int, mode fs.FileMode) (_ *os.File, err error) {
		file, err = os.OpenFile(path, flag, mode)
		return file, err
	}
	db, err := openDB(path, opt)
	if err != nil {
		return nil, err
	}
	j := journalOf(db, path)
	j.file = file
	err = j.update(j.start)
	if err == nil {
		err = j.view(func(tx *bbolt.Tx) (err error) {
			j.tally.states, err = countStates(tx)
			return err
		})
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return j, nil
}

func journalOf(db *bbolt.DB, path string) *Journal {
	return &Journal{
		db: db, path: path, now: time.Now,
		watchers: map[string]chan struct{}{}, stopped: make(chan struct{}),
		indexes: map[string]*index{}, tally: tally{changes: map[State]int{}},
	}
}

// start checks the schema, and brings the file of an older build up to it.
func (j *Journal) start(tx *bbolt.Tx) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		return fmt.Errorf("journal %s: this is no journal of ostree-upload", j.path)
	}
	switch v := meta.Get(versionKey); string(v) {
	case schema:
		for _, name := range buckets {
			if tx.Bucket(name) == nil {
				return &DamagedError{j.path, fmt.Errorf("bucket %s is not there", name)}
			}
		}
		return errUnchanged
	case schemaOne, schemaTwo:
		if err := upgrade(tx, string(v)); err != nil {
			return &DamagedError{j.path, err}
		}
		return nil
	default:
		return fmt.Errorf("journal %s: schema version %q, this build knows %q only", j.path, v, schema)
	}
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
	if j.isBroken() {
		return errors.Join(j.stoppedBy(), j.letGo())
	}
	return errors.Join(j.stoppedBy(), j.db.Close())
}

// letGo lets another Journal have the file, of which bbolt may hold locks of its own for
// ever. What it has mapped of it stays until the end of the process.
func (j *Journal) letGo() error {
	if j.file == nil { // it was opened to be read, by a process that ends
		return nil
	}
	return errors.Join(unix.Flock(int(j.file.Fd()), unix.LOCK_UN), j.file.Close())
}

// update runs fn in a write transaction. Nothing is written if fn fails; if it
// fails with errUnchanged, that is success.
func (j *Journal) update(fn func(*bbolt.Tx) error) (err error) {
	j.writing.Lock()
	defer j.writing.Unlock()
	if err := j.stoppedBy(); err != nil {
		return err
	}
	clear(j.tally.changes)
	defer guard(&err, j.damaged)()
	tx, err := j.begin(true)
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
			j.stop(fmt.Errorf("after a failed commit: %w", err))
		}
		return fmt.Errorf("commit to journal: %w", err)
	}
	j.tally.apply()
	return nil
}

// view runs fn in a read transaction.
func (j *Journal) view(fn func(*bbolt.Tx) error) (err error) {
	tx, err := j.begin(false)
	if err != nil {
		return err
	}
	defer func() {
		if !j.isBroken() { // else it might wait for bbolt for ever
			_ = tx.Rollback() // of a transaction that only read
		}
	}()
	defer guard(&err, j.damaged)()
	return fn(tx)
}

// begin begins a transaction. If bbolt panics over that, it keeps its locks: so it is asked
// by one at a time, and by nobody after that.
func (j *Journal) begin(write bool) (tx *bbolt.Tx, err error) {
	j.beginning.Lock()
	defer j.beginning.Unlock()
	if j.isBroken() {
		return nil, j.stoppedBy()
	}
	defer guard(&err, j.damaged)()
	return j.db.Begin(write)
}

// damaged stops the journal over what a panic says. bbolt panics over a page that is
// damaged, and a page that the disk cannot give is a fault in memory. That must end
// one request, with a word about the file, and the process in its own order.
func (j *Journal) damaged(said any) error {
	j.stop(&DamagedError{j.path, fmt.Errorf("%v", said)})
	j.stopping.Lock()
	j.broken = true
	j.stopping.Unlock()
	return j.stoppedBy()
}

func (j *Journal) isBroken() bool {
	j.stopping.Lock()
	defer j.stopping.Unlock()
	return j.broken
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
	if err := j.stoppedBy(); err != nil {
		return err
	}
	return j.view(func(*bbolt.Tx) error { return nil })
}

// stop keeps the first failure for all who come after it.
func (j *Journal) stop(err error) {
	j.stopping.Lock()
	defer j.stopping.Unlock()
	if j.failed == nil {
		j.failed = err
		close(j.stopped)
	}
}

// stoppedBy is the failure that stopped the journal, or nil.
func (j *Journal) stoppedBy() error {
	j.stopping.Lock()
	defer j.stopping.Unlock()
	if j.failed == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrStopped, j.failed)
}
