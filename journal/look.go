// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"go.etcd.io/bbolt"
)

// OpenToRead opens the journal at path for methods that record nothing, and changes no
// file. The error is at once ErrHeld if a server has it open; one that starts meanwhile
// waits for Close.
func OpenToRead(path string) (*Journal, error) {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("journal %s: this is no file", path)
	case st.Size() == 0: // into which bbolt would write
		return nil, &DamagedError{path, errors.New("it is empty")}
	}
	opt := options()
	opt.ReadOnly, opt.Timeout = true, time.Nanosecond
	db, err := openDB(path, opt)
	if err != nil {
		return nil, err
	}
	j := journalOf(db, path)
	var version string
	err = j.view(func(tx *bbolt.Tx) error {
		if meta := tx.Bucket(metaBucket); meta != nil {
			version = string(meta.Get(versionKey))
		}
		if version == schemaOne || version == schemaTwo {
			return nil
		}
		return j.start(tx)
	})
	switch {
	case err == nil && (version == schemaOne || version == schemaTwo):
		upgraded, err := upgradedCopy(path)
		return upgraded, errors.Join(err, db.Close())
	case err == nil, errors.Is(err, errUnchanged):
		return j, nil
	}
	return nil, errors.Join(err, db.Close())
}

// upgradedCopy opens a copy of an earlier build's journal, brought up to the present
// schema. Its file is gone once it is closed.
func upgradedCopy(path string) (*Journal, error) {
	from, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer from.Close() //nolint:errcheck // it was read only
	to, err := os.CreateTemp("", "ostree-upload-journal-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(to.Name()) //nolint:errcheck // a temporary file
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Close()); err != nil {
		return nil, fmt.Errorf("copy the journal of an earlier version, to read it: %w", err)
	}
	return OpenFile(to.Name())
}
