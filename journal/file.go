// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/lirios/ostree-upload/internal/durable"
)

// openDB opens the database of a journal that exists. Damage can make bbolt
// panic while it reads the tree; that is an error like any other here.
func openDB(path string) (db *bbolt.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("the file is damaged: %v", r)
		}
	}()
	db, err = bbolt.Open(path, 0o600, options())
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, errors.New("another process holds it")
	}
	return db, err
}

// createFile makes an empty journal at path unless there is one. It is prepared
// under another name: killed in the middle, bbolt would leave a file that it
// then refuses to open.
func createFile(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.Create(path, writeEmpty)
}

func writeEmpty(path string) error {
	db, err := bbolt.Open(path, 0o600, options())
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{
			metaBucket, sessionsBucket, countsBucket, newestBucket, liveBucket, problemsBucket, worksBucket, setsBucket,
		} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return tx.Bucket(metaBucket).Put(versionKey, []byte(schema))
	})
	return errors.Join(err, db.Close())
}
