// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/test/must"

	"go.etcd.io/bbolt"

	"github.com/lirios/ostree-upload/internal/wire"
)

// refsTo gives n refs of a salt.
func refsTo(n int, salt string) (refs []wire.Ref) {
	for i := range n {
		refs = append(refs, wire.Ref{Ref: fmt.Sprint("os/", salt, "/", i), New: fmt.Sprintf("%064x", i)})
	}
	return refs
}

func createFor(t *testing.T, j *Journal, token string, refs []wire.Ref) Session {
	t.Helper()
	s, err := j.Create(Session{Token: token, Refs: refs}, week)
	must.OK(t, err)
	return s
}

func end(t *testing.T, j *Journal, id string, states ...State) {
	t.Helper()
	move(t, j, id, states...)
	must.OK(t, j.Release(id))
}

// pages reads all pages of a query.
func pages(t *testing.T, j *Journal, q Query) (ids []string) {
	t.Helper()
	for {
		page, next, err := j.List(q)
		must.OK(t, err)
		if len(page) > q.Limit {
			t.Fatalf("a page of %d sessions, asked for %d", len(page), q.Limit)
		}
		for _, s := range page {
			ids = append(ids, s.ID)
		}
		if next == "" {
			return ids
		}
		q.Before = next
	}
}

// Each filter finds what a look at all sessions finds, in its order, whatever the
// size of the pages.
func TestList(t *testing.T) {
	j := newJournal(t)
	j.db.NoSync = true
	for n := range 60 {
		s := createFor(t, j, []string{"ci", "ci-2", "c"}[n%3], refsTo(1+n%12, fmt.Sprint(n%2)))
		switch n % 5 {
		case 1:
			end(t, j, s.ID, Aborted)
		case 2:
			move(t, j, s.ID, Verifying)
		}
	}
	moves := wire.OpenRequest{Refs: refsTo(1, "0")}.Moves()
	for _, q := range []Query{{}, {Token: "ci"}, {Token: "c"}, {Token: "nobody"}, {State: Open}, {State: Verifying, Token: "ci"}, {State: Aborted}, {Token: "ci", State: Aborted}, {Moves: moves}, {State: Open, Token: "ci", Moves: moves}, {State: "paused"}} {
		all, err := j.Sessions(func(s *Session) bool {
			return (q.Token == "" || s.Token == q.Token) && (q.State == "" || s.State == q.State) && (q.Moves == "" || s.Moves == q.Moves)
		})
		must.OK(t, err)
		var want []string
		for _, s := range all {
			want = append(want, s.ID)
		}
		for _, q.Limit = range []int{1, 7, 1000} {
			if got := pages(t, j, q); !reflect.DeepEqual(got, want) {
				t.Errorf("%+v lists %d sessions %v, want %d %v", q, len(got), got, len(want), want)
			}
		}
	}
	if _, _, err := j.List(Query{Before: "k3xq7mpl2wbz5aen", Limit: 1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("before an unknown session: %v", err)
	}
}

// A record has few refs, and all of them are there for whoever asks for the session,
// until it ends unpublished.
func TestManyRefs(t *testing.T) {
	j := newJournal(t)
	refs := refsTo(5000, "x")
	s := createFor(t, j, "ci", refs)
	if !reflect.DeepEqual(s.Refs, refs) || s.RefCount != 5000 {
		t.Errorf("created with %d refs, count %d", len(s.Refs), s.RefCount)
	}
	head, err := j.Head(s.ID)
	must.OK(t, err)
	page, _, err := j.List(Query{Limit: 10})
	must.OK(t, err)
	for _, got := range []Session{head, page[0]} {
		if len(got.Refs) != FewRefs || got.RefCount != 5000 || got.Moves != s.Moves {
			t.Errorf("%d refs, count %d, moves %s", len(got.Refs), got.RefCount, got.Moves)
		}
	}
	moved, err := j.Move(s.ID, Verifying, nil) // what the publisher goes on with
	must.OK(t, err)
	if !reflect.DeepEqual(moved.Refs, refs) {
		t.Errorf("moved, it has %d refs", len(moved.Refs))
	}
	move(t, j, s.ID, Open)
	must.OK(t, j.Touch(s.ID, week))
	if got := session(t, j, s.ID); !reflect.DeepEqual(got.Refs, refs) {
		t.Errorf("after a move %d refs are there", len(got.Refs))
	}
	end(t, j, s.ID, Aborted)
	if got := session(t, j, s.ID); len(got.Refs) != FewRefs || got.RefCount != 5000 {
		t.Errorf("after the end %d refs are there, count %d", len(got.Refs), got.RefCount)
	}
	s = createFor(t, j, "ci", refs)
	end(t, j, s.ID, Verifying, Publishing, Published)
	if got := session(t, j, s.ID); !reflect.DeepEqual(got.Refs, refs) {
		t.Errorf("of a published session %d refs are kept", len(got.Refs))
	}
}

// A token's share counts what has not ended, and only its own.
func TestShare(t *testing.T) {
	j := newJournal(t)
	createFor(t, j, "ci", refsTo(30, "a"))
	s := createFor(t, j, "ci", refsTo(3, "b"))
	createFor(t, j, "c", refsTo(500, "c"))
	want := func(sessions, refs int) {
		t.Helper()
		if got, err := j.ShareOf("ci"); err != nil || got != (Share{sessions, refs}) {
			t.Errorf("share is %+v, %v", got, err)
		}
	}
	want(2, 33)
	move(t, j, s.ID, Verifying)
	want(2, 33)
	end(t, j, s.ID, Aborted)
	want(1, 30)
}

// What a token's past sessions take is bounded: of their refs, and of the sessions
// themselves; the live ones and those of others stay.
func TestHistoryIsBounded(t *testing.T) {
	j := newJournal(t)
	j.db.NoSync = true
	other, live := createFor(t, j, "other", refsTo(20, "o")), createFor(t, j, "ci", refsTo(20, "l"))
	end(t, j, other.ID, Verifying, Publishing, Published)
	var first, last string
	for n := range keptRefs + 20 {
		s := createFor(t, j, "ci", refsTo(FewRefs+1, "x"))
		end(t, j, s.ID, Verifying, Publishing, Published)
		if last = s.ID; n == 0 {
			first = s.ID
		}
	}
	for id, want := range map[string]int{first: FewRefs, last: FewRefs + 1, other.ID: 20, live.ID: 20} {
		if got := session(t, j, id); len(got.Refs) != want {
			t.Errorf("session %s has %d refs, want %d", id, len(got.Refs), want)
		}
	}
	must.OK(t, j.update(func(tx *bbolt.Tx) error { // as keptSessions does
		for range 30 {
			if err := dropOldest(tx, "ci", ownBucket, 11, func(id string, r *record) error { return j.drop(tx, id, r) }); err != nil {
				return err
			}
		}
		return nil
	}))
	if got := len(pages(t, j, Query{Token: "ci", Limit: 100})); got != 10 {
		t.Errorf("%d sessions are remembered", got)
	}
	for _, id := range []string{live.ID, other.ID, last} {
		session(t, j, id)
	}
}

// A file of the first schema, with all refs in each record and without the indexes,
// opens as one of this build, and says the same of each session.
func TestUpgrade(t *testing.T) {
	j := newJournal(t)
	path := j.path
	var before []Session
	for n := range 6 {
		s := createFor(t, j, "ci", refsTo(1+n*8, "x"))
		if n%2 == 0 {
			end(t, j, s.ID, Verifying, Publishing, Published)
		}
		before = append(before, session(t, j, s.ID))
	}
	must.OK(t, j.update(func(tx *bbolt.Tx) error { return downgrade(tx, before) }))
	must.OK(t, j.Close())
	j = open(t, path)
	for _, s := range before {
		s.Steps = nil // it had none
		if got := session(t, j, s.ID); !reflect.DeepEqual(got, s) {
			t.Errorf("session is %+v, want %+v", got, s)
		}
	}
	if share, err := j.ShareOf("ci"); err != nil || share != (Share{3, 9 + 25 + 41}) {
		t.Errorf("share is %+v, %v", share, err)
	}
	if got := pages(t, j, Query{Token: "ci", Limit: 4}); len(got) != 6 {
		t.Errorf("%d sessions are listed", len(got))
	}
}

// downgrade makes a file of the first schema.
func downgrade(tx *bbolt.Tx, sessions []Session) error {
	for _, s := range sessions {
		old := map[string]any{"state": s.State, "token": s.Token, "refs": s.Refs, "created": s.Created, "updated": s.Updated, "expires": s.Expires, "ttl": time.Duration(week)}
		b, err := json.Marshal(old)
		if err != nil {
			return err
		}
		if err := tx.Bucket(sessionsBucket).Put([]byte(s.ID), b); err != nil {
			return err
		}
		if !s.State.Final() {
			if err := tx.Bucket(liveBucket).Put([]byte(s.ID), nil); err != nil {
				return err
			}
		}
	}
	return errors.Join(tx.DeleteBucket(ownBucket), tx.DeleteBucket(refsBucket), tx.Bucket(metaBucket).Put(versionKey, []byte("1")))
}
