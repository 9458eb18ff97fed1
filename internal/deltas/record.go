// SPDX-License-Identifier: AGPL-3.0-or-later

package deltas

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/hint"
)

// recordName is the file of the record in the state folder.
const recordName = "deltas.json"

// record is which deltas are the server's own.
type record struct {
	Deltas map[Delta]*entry `json:"deltas"`
	// Untold says that a summary which lists deltas has not been asked for since one
	// came or went.
	Untold bool `json:"untold,omitempty"`
}

// entry is what is known of one delta.
type entry struct {
	// Indexed says that the index of the target tells that the delta is there.
	Indexed    bool      `json:"indexed,omitempty"`
	Superseded time.Time `json:"superseded,omitzero"` // since when no rule asks for it
}

// old tells whether it was superseded before a time.
func (e *entry) old(before time.Time) bool {
	return !e.Superseded.IsZero() && !e.Superseded.After(before)
}

func readRecord(state string) (*record, error) {
	rec := &record{Deltas: make(map[Delta]*entry)}
	path := filepath.Join(state, recordName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return rec, nil
	}
	if err == nil {
		err = json.Unmarshal(b, rec)
	}
	if err == nil && rec.Deltas == nil {
		err = errors.New("it names no deltas")
	}
	for d, e := range rec.Deltas {
		if e == nil && err == nil {
			err = fmt.Errorf("it tells nothing of %s", d)
		}
	}
	if err != nil {
		return nil, hint.Add(fmt.Errorf("the record of static deltas %s cannot be read: %w", path, err),
			"remove the file; the deltas in it then stay until somebody deletes them")
	}
	return rec, nil
}

func (rec *record) write(state string) error {
	b, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return err
	}
	return durable.Replace(filepath.Join(state, recordName), func(f *os.File) error {
		_, err := f.Write(b)
		return err
	})
}

// intend notes that a delta is going to be made.
func (rec *record) intend(d Delta) { rec.Deltas[d] = &entry{} }

// indexed notes that the index is as the delta is: there, or gone for good.
func (rec *record) indexed(d Delta, there bool) {
	rec.Untold = true
	if there {
		rec.Deltas[d].Indexed = true
	} else {
		delete(rec.Deltas, d)
	}
}
