// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"fmt"
	"maps"
	"sync"

	"go.etcd.io/bbolt"
)

// tally counts the sessions in each state. It is in memory: whoever asks, every few
// seconds perhaps, reads no file and waits for no transaction.
type tally struct {
	changes map[State]int // of the write transaction under way; guarded by Journal.writing

	mu     sync.Mutex
	states map[State]int
}

// States counts the sessions in each state, also in those that have none.
func (j *Journal) States() map[State]int {
	all := map[State]int{}
	for s := range next {
		all[s] = 0
	}
	j.tally.mu.Lock()
	defer j.tally.mu.Unlock()
	maps.Copy(all, j.tally.states)
	return all
}

// counted notes, within a write transaction, that n more sessions are in a state.
func (j *Journal) counted(s State, n int) { j.tally.changes[s] += n }

// apply counts what the transaction changed that was just committed.
func (t *tally) apply() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s, n := range t.changes {
		t.states[s] += n
	}
}

// countStates reads the whole file once. A record that cannot be read is in no state,
// and whoever reads it says so.
func countStates(tx *bbolt.Tx) (map[State]int, error) {
	states := map[State]int{}
	err := tx.Bucket(sessionsBucket).ForEach(func(id, _ []byte) error {
		if r, err := readRecord(tx, string(id)); err == nil {
			states[r.State]++
		}
		return nil
	})
	return states, err
}

// check compares the counts with the file.
func (t *tally) check(tx *bbolt.Tx) error {
	want, err := countStates(tx)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.states, func(_ State, n int) bool { return n == 0 })
	if !maps.Equal(t.states, want) {
		return fmt.Errorf("journal has sessions in the states %v, and counts %v", want, t.states)
	}
	return nil
}
