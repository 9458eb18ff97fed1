// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/lirios/ostree-upload/internal/wire"
)

const (
	// FewRefs is how many refs a record holds itself. It is read for each request
	// and each line of a list, so that the rest stands elsewhere.
	FewRefs = 10
	// keptRefs is how many sessions of a token keep more than those: the live ones
	// and, up to this number, those published last.
	keptRefs = 50
	// keptSessions is how many sessions of a token are remembered at most.
	keptSessions = 10_000
)

// ownKey leads to a session by its token and the time of its creation.
func ownKey(id string, r *record) []byte {
	return append(ownPrefix(r.Token), newestKey(id, r)...)
}

func ownPrefix(token string) []byte { return append([]byte(token), 0) }

// idOf is the ID at the end of a key that newestKey made, perhaps after a prefix.
func idOf(key, prefix []byte) string { return string(key[len(prefix)+8:]) }

// splitRefs writes the refs of a record that are too many for it, and leaves it
// the first.
func splitRefs(tx *bbolt.Tx, id string, r *record) error {
	if len(r.Refs) <= FewRefs {
		return nil
	}
	b, err := json.Marshal(r.Refs)
	if err != nil {
		return fmt.Errorf("session %s: its refs: %w", id, err)
	}
	r.Refs = r.Refs[:FewRefs]
	return tx.Bucket(refsBucket).Put(ownKey(id, r), b)
}

// readRefs reads all refs of a session, or the first if that is all that is kept.
func readRefs(tx *bbolt.Tx, id string, r *record) ([]wire.Ref, error) {
	b := tx.Bucket(refsBucket).Get(ownKey(id, r))
	if b == nil {
		if r.Count > len(r.Refs) && (!r.State.Final() || len(r.Refs) == 0) {
			return nil, fmt.Errorf("session %s: its refs are not there", id)
		}
		return r.Refs, nil
	}
	var refs []wire.Ref
	if err := json.Unmarshal(b, &refs); err != nil {
		return nil, fmt.Errorf("session %s: its refs: %w", id, err)
	}
	return refs, nil
}

// list puts a session into the indexes.
func list(tx *bbolt.Tx, id string, r *record) error {
	if err := tx.Bucket(newestBucket).Put(newestKey(id, r), nil); err != nil {
		return err
	}
	if err := tx.Bucket(ownBucket).Put(ownKey(id, r), nil); err != nil {
		return err
	}
	if r.State.Final() {
		return nil
	}
	return tx.Bucket(liveBucket).Put([]byte(id), []byte(r.Token))
}

// makeRoom bounds what a token's past sessions take: before it opens another, the
// oldest that has ended is forgotten, and the refs of the oldest with many.
func (j *Journal) makeRoom(tx *bbolt.Tx, token string) error {
	if err := dropOldest(tx, token, ownBucket, keptSessions, func(id string, r *record) error {
		return j.drop(tx, id, r)
	}); err != nil {
		return err
	}
	return dropOldest(tx, token, refsBucket, keptRefs, func(id string, r *record) error {
		return tx.Bucket(refsBucket).Delete(ownKey(id, r))
	})
}

// dropOldest calls drop for the oldest sessions of a token in a bucket that have
// ended and were released, as many as there are beyond most and one more.
func dropOldest(tx *bbolt.Tx, token string, bucket []byte, most int, drop func(id string, r *record) error) error {
	ids := keysOf(tx.Bucket(bucket), ownPrefix(token))
	for _, id := range ids {
		if len(ids) < most {
			return nil
		}
		r, err := readRecord(tx, id)
		if err != nil {
			return err
		}
		if !r.State.Final() || tx.Bucket(setsBucket).Bucket([]byte(id)) != nil {
			continue
		}
		if err := drop(id, &r); err != nil {
			return err
		}
		most++
	}
	return nil
}

// upgrade brings the file of an older build to the present form.
func upgrade(tx *bbolt.Tx, from string) error {
	for _, name := range buckets {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	if from == schemaOne {
		if err := upgradeSessions(tx); err != nil {
			return err
		}
	}
	if err := fillLog(tx); err != nil {
		return err
	}
	return tx.Bucket(metaBucket).Put(versionKey, []byte(schema))
}

// upgradeSessions is for a build that had all refs in the records, and no indexes.
func upgradeSessions(tx *bbolt.Tx) error {
	var ids []string
	err := tx.Bucket(sessionsBucket).ForEach(func(id, _ []byte) error {
		ids = append(ids, string(id))
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := upgradeSession(tx, id); err != nil {
			return err
		}
	}
	return tx.Bucket(metaBucket).Delete(cleanKey)
}

func upgradeSession(tx *bbolt.Tx, id string) error {
	r, err := readRecord(tx, id)
	if err != nil {
		return err
	}
	r.Count, r.Moves = len(r.Refs), wire.OpenRequest{Refs: r.Refs, Force: r.Force}.Moves()
	if err := splitRefs(tx, id, &r); err != nil {
		return err
	}
	if err := list(tx, id, &r); err != nil {
		return err
	}
	return r.write(tx, id)
}
