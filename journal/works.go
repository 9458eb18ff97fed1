// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// Work is something that is to follow a publish and is not done yet. Publishes
// that ask for the same kind share one Work.
type Work struct {
	Kind  string    `json:"-"`               // the publisher's word for it
	Since time.Time `json:"since"`           // when it was first asked for
	Asked int       `json:"asked"`           // how often
	Tries int       `json:"tries,omitempty"` // how many of its tries failed
	Error string    `json:"error,omitempty"` // why the last one did
}

// addWorks asks for works, within the transaction that makes them necessary.
func addWorks(tx *bbolt.Tx, kinds []string, now time.Time) error {
	for _, kind := range kinds {
		w, there, err := readWork(tx, kind)
		if err != nil {
			return err
		}
		if !there {
			w.Since = now
		}
		w.Asked++
		if err := w.write(tx); err != nil {
			return err
		}
	}
	return nil
}

func readWork(tx *bbolt.Tx, kind string) (w Work, there bool, err error) {
	w.Kind = kind
	b := tx.Bucket(worksBucket).Get([]byte(kind))
	if b == nil {
		return w, false, nil
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return w, true, fmt.Errorf("read work %s: %w", kind, err)
	}
	return w, true, nil
}

func (w *Work) write(tx *bbolt.Tx) error {
	b, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("write work %s: %w", w.Kind, err)
	}
	return tx.Bucket(worksBucket).Put([]byte(w.Kind), b)
}

// Works lists the works that are due, by kind.
func (j *Journal) Works() (due []Work, err error) {
	err = j.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(worksBucket).ForEach(func(kind, _ []byte) error {
			w, _, err := readWork(tx, string(kind))
			due = append(due, w)
			return err
		})
	})
	return due, err
}

// WorkDone records that a work is done, as it was when Works listed it: it stays due
// if a publish has asked for it since.
func (j *Journal) WorkDone(w Work) error {
	return j.update(func(tx *bbolt.Tx) error {
		now, there, err := readWork(tx, w.Kind)
		if err != nil {
			return err
		}
		if !there || now.Asked != w.Asked {
			return errUnchanged
		}
		return tx.Bucket(worksBucket).Delete([]byte(w.Kind))
	})
}

// WorkFailed records that a try of a work failed, which stays due.
func (j *Journal) WorkFailed(w Work, cause error) error {
	return j.update(func(tx *bbolt.Tx) error {
		now, there, err := readWork(tx, w.Kind)
		if err != nil {
			return err
		}
		if !there {
			return errUnchanged
		}
		now.Tries, now.Error = now.Tries+1, cause.Error()
		return now.write(tx)
	})
}
