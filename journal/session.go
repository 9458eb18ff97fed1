// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/lirios/ostree-upload/internal/wire"
)

// freshness is how old a session's Updated may get before activity renews it:
// a write for each chunk that arrives would cost more than the chunk.
const freshness = time.Minute

// Session is a push session as it was when it was read; changing it changes
// nothing.
type Session struct {
	ID      string
	State   State
	Force   bool
	Promote bool   // it brings no object
	Repair  bool   // what the repository has of the set is verified before it is relied on
	Token   string // name of the token that opened it, or went on with it
	Remote  string // address that opened it or, later, asked to finalize it; for the log
	Subject string // whose ID token that was done with, "" if with none; for the log
	Request string // ID of the request that opened it or, later, asked to finalize it; for the log
	// Refs are all refs from Session, Create and Move, the first FewRefs from Head
	// and from lists.
	// Of a session that ended unpublished, and of one published long ago, those
	// first are all that is kept.
	Refs     []wire.Ref
	RefCount int
	Moves    string // wire.OpenRequest.Moves of all refs, Force, Promote and Repair
	Created  time.Time
	Updated  time.Time // of the last activity, up to a minute late
	Expires  time.Time
	Error    string // a code of package wire: why it is in this state, or ""
	Detail   string // the same in words
	// Problems are the first wire.MaxProblems objects missing or bad, by
	// object. Only Session and Move fill it in.
	Problems []wire.ObjectProblem
	// Brought names those of the first FewRefs whose commits this session brought,
	// and did not find in the repository. Move to Publishing notes them.
	Brought []string
	// Begun is how many of the steps in which its refs move in a bucket may have had an
	// effect. It counts while the session is Publishing, and is 0 on the disk.
	Begun int
	Hold  bool   // it becomes Held before it is published
	Key   string // that opens the preview of one that is held; "" unless Hold
	By    string // name of the token that had it published after it was held, or rejected it
	// After are the works that follow its publish. Lists have them, too.
	After  []wire.After
	Handed []wire.Handed // the last maxHanded times that it went to another token
	Steps  []wire.Step   // the states that it was in: the first, and the last of the others
	Counts Counts
}

// RefNames goes through the names of the refs.
func (s *Session) RefNames() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, r := range s.Refs {
			if !yield(r.Ref) {
				return
			}
		}
	}
}

// Moved goes through the names of the refs, each with whether it is deleted.
func (s *Session) Moved() iter.Seq2[string, bool] {
	return func(yield func(string, bool) bool) {
		for _, r := range s.Refs {
			if !yield(r.Ref, r.New == "") {
				return
			}
		}
	}
}

// open is the request that asks for what s is to do.
func (s *Session) open() wire.OpenRequest {
	return wire.OpenRequest{Refs: s.Refs, Force: s.Force, Promote: s.Promote, Repair: s.Repair, Hold: s.Hold}
}

// Counts are what a session's set and uploads add up to.
type Counts struct {
	Known    int64 // objects of the set
	Present  int64
	Staged   int64
	Rejected int64
	Received int64 // bytes of its uploads, each counted once
	// StagedBytes are those of the objects staged, as stored, and Inflated
	// those of all objects looked at, inflated.
	StagedBytes int64
	Inflated    int64
}

// Missing is how many objects of the set are neither in the repository nor
// staged: those never received, and the rejected.
func (c Counts) Missing() int64 { return c.Known - c.Present - c.Staged }

// of is the count of a status that has one of its own, else nil.
func (c *Counts) of(s Status) *int64 {
	switch s {
	case Present:
		return &c.Present
	case Staged:
		return &c.Staged
	case Rejected:
		return &c.Rejected
	}
	return nil
}

func (c *Counts) move(from, to Status) {
	if n := c.of(from); n != nil {
		*n--
	}
	if n := c.of(to); n != nil {
		*n++
	}
}

func (c *Counts) fields() []*int64 {
	return []*int64{&c.Known, &c.Present, &c.Staged, &c.Rejected, &c.Received, &c.StagedBytes, &c.Inflated}
}

func readCounts(tx *bbolt.Tx, id string) (Counts, error) {
	var c Counts
	b := tx.Bucket(countsBucket).Get([]byte(id))
	fields := c.fields()
	if len(b) != 8*len(fields) {
		return c, fmt.Errorf("session %s: its counts have %d bytes", id, len(b))
	}
	for i, f := range fields {
		*f = int64(binary.BigEndian.Uint64(b[8*i:]))
	}
	return c, nil
}

func writeCounts(tx *bbolt.Tx, id string, c Counts) error {
	var b []byte
	for _, f := range c.fields() {
		b = binary.BigEndian.AppendUint64(b, uint64(*f))
	}
	return tx.Bucket(countsBucket).Put([]byte(id), b)
}

// record is a session as it stands in the file.
type record struct {
	State   State         `json:"state"`
	Force   bool          `json:"force,omitempty"`
	Promote bool          `json:"promote,omitempty"`
	Repair  bool          `json:"repair,omitempty"`
	Token   string        `json:"token"`
	Remote  string        `json:"remote,omitempty"`
	Request string        `json:"request,omitempty"`
	Subject string        `json:"subject,omitempty"`
	Refs    []wire.Ref    `json:"refs"`  // the first FewRefs
	Count   int           `json:"count"` // of all refs
	Moves   string        `json:"moves"`
	Brought []string      `json:"brought,omitempty"`
	Begun   int           `json:"begun,omitempty"`
	Created time.Time     `json:"created"`
	Updated time.Time     `json:"updated"`
	Expires time.Time     `json:"expires"`
	TTL     time.Duration `json:"ttl"` // nanoseconds from activity to Expires
	Error   string        `json:"error,omitempty"`
	Detail  string        `json:"detail,omitempty"`
	After   []asked       `json:"after,omitempty"`
	Handed  []wire.Handed `json:"handed,omitempty"`
	Steps   []wire.Step   `json:"steps,omitempty"`
	Hold    bool          `json:"hold,omitempty"`
	Key     string        `json:"key,omitempty"`
	By      string        `json:"by,omitempty"`
}

func readRecord(tx *bbolt.Tx, id string) (record, error) {
	var r record
	b := tx.Bucket(sessionsBucket).Get([]byte(id))
	if b == nil {
		return r, fmt.Errorf("session %.32q: %w", id, ErrNotFound)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("session %s: its record: %w", id, err)
	}
	return r, nil
}

func (r *record) write(tx *bbolt.Tx, id string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("session %s: its record: %w", id, err)
	}
	return tx.Bucket(sessionsBucket).Put([]byte(id), b)
}

// touch notes activity at now, and reports whether the record needs writing.
func (r *record) touch(now time.Time, ttl time.Duration) bool {
	fresh := min(freshness, ttl/10)
	stale := now.Sub(r.Updated) >= fresh || now.Add(ttl).Sub(r.Expires) >= fresh || ttl != r.TTL
	if r.State != Open || !stale {
		return false
	}
	r.Updated, r.Expires, r.TTL = now, now.Add(ttl), ttl
	return true
}

func (r *record) session(id string, c Counts) Session {
	return Session{
		ID: id, State: r.State, Force: r.Force, Promote: r.Promote, Repair: r.Repair, Token: r.Token, Remote: r.Remote, Request: r.Request, Subject: r.Subject, Refs: r.Refs, RefCount: r.Count, Moves: r.Moves, Brought: r.Brought,
		Created: r.Created, Updated: r.Updated, Expires: r.Expires,
		Error: r.Error, Detail: r.Detail, Handed: r.Handed, Steps: r.Steps, Counts: c,
		Hold: r.Hold, Key: r.Key, By: r.By, Begun: r.Begun,
	}
}

// readSession reads all of a session but its problems.
func readSession(tx *bbolt.Tx, id string) (Session, error) {
	r, err := readRecord(tx, id)
	if err != nil {
		return Session{}, err
	}
	c, err := readCounts(tx, id)
	if err != nil {
		return Session{}, err
	}
	s := r.session(id, c)
	s.After, err = r.after(tx)
	return s, err
}

// Create opens a session for the Refs, Token, Remote, Request, Subject, Force, Promote,
// Repair and Hold of s, which expires ttl after the last activity, and returns it with its ID,
// State and times.
func (j *Journal) Create(s Session, ttl time.Duration) (Session, error) {
	id := newID()
	now := j.clock()
	r := record{
		State: Open, Force: s.Force, Promote: s.Promote, Repair: s.Repair, Token: s.Token, Remote: s.Remote, Request: s.Request, Subject: s.Subject,
		Refs: s.Refs, Count: len(s.Refs), Moves: s.open().Moves(),
		Created: now, Updated: now, Expires: now.Add(ttl), TTL: ttl,
	}
	r.step(now)
	if s.Hold {
		r.Hold, r.Key = true, newID()+newID() // so long that no log has it
	}
	err := j.update(func(tx *bbolt.Tx) error { return j.insert(tx, id, &r) })
	if err != nil {
		return Session{}, fmt.Errorf("create a session: %w", err)
	}
	return j.Session(id)
}

func (j *Journal) insert(tx *bbolt.Tx, id string, r *record) error {
	if tx.Bucket(sessionsBucket).Get([]byte(id)) != nil {
		return fmt.Errorf("session %s exists", id)
	}
	if err := j.makeRoom(tx, r.Token); err != nil {
		return err
	}
	if err := splitRefs(tx, id, r); err != nil {
		return err
	}
	if err := r.write(tx, id); err != nil {
		return err
	}
	if err := writeCounts(tx, id, Counts{}); err != nil {
		return err
	}
	if err := list(tx, id, r); err != nil {
		return err
	}
	if _, err := tx.Bucket(problemsBucket).CreateBucket([]byte(id)); err != nil {
		return err
	}
	j.counted(r.State, 1)
	return createSet(tx, id)
}

// newID gives 80 random bits as 16 characters of a-z2-7.
func newID() string {
	var b [10]byte
	rand.Read(b[:])
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

func newestKey(id string, r *record) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(r.Created.UnixNano())), id...)
}

// Session gives one session, with its problems. An unknown or malformed id is
// ErrNotFound.
func (j *Journal) Session(id string) (Session, error) {
	var s Session
	err := j.view(func(tx *bbolt.Tx) (err error) {
		_, s, err = readWhole(tx, id)
		return err
	})
	return s, err
}

// Head is Session with the first refs only and without problems: cheap, however
// large the session is.
func (j *Journal) Head(id string) (s Session, err error) {
	err = j.view(func(tx *bbolt.Tx) error {
		s, err = readSession(tx, id)
		return err
	})
	return s, err
}

// Touch notes activity in a session, which now expires in ttl. It is cheap: it
// writes at most once a minute. *StateError unless the session is open.
func (j *Journal) Touch(id string, ttl time.Duration) error {
	now := j.clock()
	var stale bool
	check := func(tx *bbolt.Tx) (r record, err error) {
		if r, err = readRecord(tx, id); err == nil && r.State != Open {
			err = &StateError{ID: id, From: r.State}
		}
		stale = err == nil && r.touch(now, ttl)
		return r, err
	}
	err := j.view(func(tx *bbolt.Tx) error {
		_, err := check(tx)
		return err
	})
	if err != nil || !stale {
		return err
	}
	return j.update(func(tx *bbolt.Tx) error {
		r, err := check(tx)
		if err != nil {
			return err
		}
		return r.write(tx, id)
	})
}

// clock is the time as records hold it.
func (j *Journal) clock() time.Time { return j.now().UTC().Round(0) }

// maxRefList is how many refs RefList lists.
const maxRefList = 10

// RefList lists the session's refs in one line, and counts those that are too many.
func (s *Session) RefList() string {
	var names []string
	for _, r := range s.Refs[:min(len(s.Refs), maxRefList)] {
		names = append(names, r.Ref)
	}
	text := strings.Join(names, ",")
	if more := len(s.Refs) - maxRefList; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// Age is how long ago the session was opened.
func (s *Session) Age(now time.Time) time.Duration { return now.Sub(s.Created) }

// Document is the session as the API shows it, as far as the journal knows it.
func (s *Session) Document() wire.Session {
	d := wire.Session{
		ID: s.ID, State: string(s.State), Force: s.Force, Promote: s.Promote, Repair: s.Repair, Token: s.Token,
		Refs: s.Refs, RefCount: s.RefCount, Moves: s.Moves,
		Created: s.Created.Truncate(time.Second), Updated: s.Updated.Truncate(time.Second), Expires: s.Expires.Truncate(time.Second),
		Objects: wire.Objects{
			Known: s.Counts.Known, Missing: s.Counts.Missing(),
			Staged: s.Counts.Staged, Rejected: s.Counts.Rejected,
		},
		Bytes:    wire.Bytes{Received: s.Counts.Received, Staged: s.Counts.StagedBytes},
		Problems: s.Problems, Error: s.Error, Detail: s.Detail, After: s.After, Handed: s.Handed,
		Remote: s.Remote, Steps: s.Steps,
	}
	d.Hold, d.By = s.Hold, s.By
	if s.State == Held {
		d.Preview = wire.PreviewPath(s.ID, s.Key)
	}
	if d.Problems == nil {
		d.Problems = []wire.ObjectProblem{} // [] and not null
	}
	return d
}
