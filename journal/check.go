// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"
)

// Check reads the whole journal and reports all that is wrong with it: bbolt's
// own consistency, sessions that are in one bucket and not in another, states
// and statuses that cannot be, and counts that differ from a scan. It holds up
// writers.
func (j *Journal) Check() error {
	j.writing.Lock()
	defer j.writing.Unlock()
	if err := j.checkFile(); err != nil {
		return err
	}
	return j.view(func(tx *bbolt.Tx) error {
		var errs []error
		for err := range tx.Check() {
			errs = append(errs, err)
		}
		if len(errs) > 0 {
			return fmt.Errorf("journal %s: %w", j.path, errors.Join(errs...))
		}
		var sessions int
		err := tx.Bucket(sessionsBucket).ForEach(func(id, _ []byte) error {
			sessions++
			if err := j.checkSession(tx, string(id)); err != nil {
				errs = append(errs, err)
			}
			return nil
		})
		errs = append(errs, err, checkStrays(tx, sessions), checkLog(tx), j.tally.check(tx))
		return errors.Join(errs...)
	})
}

// checkFile looks at the pages before bbolt does, which panics over damaged ones.
func (j *Journal) checkFile() error {
	if err := j.stoppedBy(); err != nil {
		return err
	}
	f, err := os.Open(j.path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was read only
	if err := checkTree(f); err != nil {
		return &DamagedError{j.path, err}
	}
	return nil
}

// checkStrays looks for what belongs to no session.
func checkStrays(tx *bbolt.Tx, sessions int) error {
	var errs []error
	for _, name := range [][]byte{countsBucket, newestBucket, ownBucket, problemsBucket} {
		n, c := 0, tx.Bucket(name).Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			n++
		}
		if n != sessions {
			errs = append(errs, fmt.Errorf("journal has %d sessions but %d in bucket %s", sessions, n, name))
		}
	}
	for _, name := range [][]byte{liveBucket, setsBucket} {
		errs = append(errs, tx.Bucket(name).ForEach(func(id, _ []byte) error {
			_, err := readRecord(tx, string(id))
			return err
		}))
	}
	errs = append(errs, tx.Bucket(worksBucket).ForEach(func(kind, _ []byte) error {
		_, _, err := readWork(tx, string(kind))
		return err
	}))
	return errors.Join(errs...)
}

func (j *Journal) checkSession(tx *bbolt.Tx, id string) error {
	r, err := readRecord(tx, id)
	if err != nil {
		return err
	}
	if !r.State.known() {
		return fmt.Errorf("session %s: its state %q is unknown", id, r.State)
	}
	if live := tx.Bucket(liveBucket).Get([]byte(id)) != nil; live == r.State.Final() {
		return fmt.Errorf("session %s is %s, listed as live: %t", id, r.State, live)
	}
	if tx.Bucket(newestBucket).Get(newestKey(id, &r)) == nil || tx.Bucket(ownBucket).Get(ownKey(id, &r)) == nil {
		return fmt.Errorf("session %s is not listed", id)
	}
	if _, err := readRefs(tx, id, &r); err != nil {
		return err
	}
	s, err := j.openSet(tx, id)
	if err != nil {
		return err
	}
	if s == nil && !r.State.Final() {
		return fmt.Errorf("session %s is %s but has no object set", id, r.State)
	}
	if s == nil {
		return nil
	}
	return s.check(id)
}

// check compares the counts of a set with a scan of it.
func (s *set) check(id string) error {
	var scan Counts
	seen := make(map[key]struct{}, s.n)
	for ord := uint32(0); ; ord++ {
		name := s.names.at(ord)
		if name == nil {
			break
		}
		status := s.statusOf(ord)
		if !status.known() {
			return fmt.Errorf("session %s: object %s: %s is unknown", id, key(name).name(), status)
		}
		seen[key(name)] = struct{}{}
		scan.Known++
		scan.move(0, status)
	}
	if int64(len(seen)) != scan.Known {
		return fmt.Errorf("session %s: %d objects stand twice in its set", id, scan.Known-int64(len(seen)))
	}
	if s.status.at(uint32(scan.Known)) != nil {
		return fmt.Errorf("session %s: more statuses than its %d objects", id, scan.Known)
	}
	scan.Received, scan.StagedBytes, scan.Inflated = s.counts.Received, s.counts.StagedBytes, s.counts.Inflated
	if scan != s.counts {
		return fmt.Errorf("session %s: counts say %+v, the set %+v", id, s.counts, scan)
	}
	return s.checkFound(id)
}

// checkFound sees that the index leads to every object.
func (s *set) checkFound(id string) error {
	for ord := range s.stored {
		name := key(s.names.at(ord)).name()
		if found, ok := s.find(name); !ok || found != ord {
			return fmt.Errorf("session %s: object %s is number %d, found as %d", id, name, ord, found)
		}
	}
	return nil
}
