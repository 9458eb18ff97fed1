// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/lirios/ostree-upload/internal/durable"
)

// DamagedError says that the file of a journal is not what was written to it.
type DamagedError struct {
	Path string
	Err  error // what was found
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the journal %s is damaged: %v", e.Path, e.Err)
}

// Unwrap returns what was found.
func (e *DamagedError) Unwrap() error { return e.Err }

// Hint says what a person can do next, and what that costs.
func (e *DamagedError) Hint() string {
	return "stop the server and run ostree-upload check --repair: it moves the file away and begins an empty one. " +
		"The history is lost, and the pushes under way have to be repeated; what is published is not touched"
}

// ErrHeld is for a journal that another process has open.
var ErrHeld = errors.New("another process holds it")

// openDB opens the database of a journal that exists. What checkPages does not
// look at can make bbolt panic all the same.
func openDB(path string, opt *bbolt.Options) (db *bbolt.DB, err error) {
	if err := checkPages(path); err != nil {
		return nil, &DamagedError{path, err}
	}
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, &DamagedError{path, fmt.Errorf("%v", r)}
		}
	}()
	db, err = bbolt.Open(path, 0o600, opt)
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("journal %s: %w", path, ErrHeld)
	}
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	return db, nil
}

// SetAside gives the file of a damaged journal another name, under which nothing
// looks for it: its own with the time.
func SetAside(path string, now time.Time) (aside string, err error) {
	aside = path + asideSuffix + now.UTC().Format(asideTime)
	return aside, durable.Rename(path, aside)
}

const (
	asideSuffix = ".damaged-"
	asideTime   = "20060102T150405Z"
)

// SetAsideAt is when a journal was last set aside; the zero time if none is there.
func SetAsideAt(path string) (last time.Time, err error) {
	left, err := filepath.Glob(path + asideSuffix + "*")
	for _, l := range left {
		at, err := time.Parse(asideTime, strings.TrimPrefix(l, path+asideSuffix))
		if err == nil && at.After(last) {
			last = at
		}
	}
	return last, err
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
		for _, name := range buckets {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return tx.Bucket(metaBucket).Put(versionKey, []byte(schema))
	})
	return errors.Join(err, db.Close())
}
