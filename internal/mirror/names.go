// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// names is the set of the names of objects, on the disk: it may have a hundred million. It
// is a bbolt file with these buckets:
//
//	meta     "of": URL of the repository; "listed": there once all of it was listed
//	objects  checksum, type -> when it was seen to be there, in minutes since 1970, as
//	         four bytes, big endian; the bucket's sequence is their number
type names struct{ db *bbolt.DB }

var (
	metaBucket, objectsBucket = []byte("meta"), []byte("objects")
	ofKey, listedKey          = []byte("of"), []byte("listed")
)

// openNames opens the file, or makes it: also anew if it is damaged or of another
// repository. Some damage ends the process while bbolt looks for free pages. A second file
// tells the next start so, which then makes the set anew: a kill at that moment costs a
// listing, too.
func openNames(path, of string, log *slog.Logger) (*names, error) {
	opening := path + ".opening"
	err := checkNames(path, opening)
	if err == nil {
		err = os.WriteFile(opening, nil, 0o600)
	}
	var n *names
	if err == nil {
		n, err = tryNames(path, of)
	}
	if unfit := (*unfitError)(nil); errors.As(err, &unfit) {
		log.Warn("the set of the names of objects cannot be used, so it is made anew", "file", path, "err", err)
		if err = durable.Remove(path); err == nil {
			n, err = tryNames(path, of)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := os.Remove(opening); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// unfitError says why a file cannot be the set.
type unfitError struct{ error }

// unfit tells errors of the system, which leave the file as good as it was, from all others.
func unfit(err error) error {
	var system unix.Errno
	switch {
	case err == nil || errors.As(err, &system):
		return err
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("another process has the set of names open: %w", err)
	}
	return &unfitError{err}
}

// checkNames looks whether bbolt may read the file, if there is one.
func checkNames(path, opening string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, ReadOnly: true})
	if err != nil {
		return unfit(err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		if has := info.Size(); has < tx.Size() {
			return &unfitError{fmt.Errorf("it has %d bytes of %d", has, tx.Size())}
		}
		return nil
	})
	if _, gone := os.Stat(opening); err == nil && gone == nil {
		err = &unfitError{errors.New("a process ended while it opened it")}
	}
	return errors.Join(err, db.Close())
}

var errOfAnother = errors.New("it has the names of another repository")

func tryNames(path, of string) (n *names, err error) {
	defer func() {
		if said := recover(); said != nil { // bbolt does so where it finds damage
			n, err = nil, &unfitError{fmt.Errorf("it is damaged: %v", said)}
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, unfit(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		if was := meta.Get(ofKey); was != nil && string(was) != of {
			return errOfAnother
		}
		_, err = tx.CreateBucketIfNotExists(objectsBucket)
		return errors.Join(err, meta.Put(ofKey, []byte(of)))
	})
	if err != nil {
		return nil, errors.Join(unfit(err), db.Close())
	}
	return &names{db}, nil
}

func (s *names) close() error { return s.db.Close() }

func (s *names) listed() (is bool) {
	_ = s.db.View(func(tx *bbolt.Tx) error { // its error would be the function's
		is = tx.Bucket(metaBucket).Get(listedKey) != nil
		return nil
	})
	return is
}

// setListed notes whether all objects have been listed.
func (s *names) setListed(is bool) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		if !is {
			return tx.Bucket(metaBucket).Delete(listedKey)
		}
		return tx.Bucket(metaBucket).Put(listedKey, []byte{1})
	})
}

func nameKey(n ostree.Name) []byte { return append(n.Checksum[:], byte(n.Type)) }

func nameOf(key []byte) (n ostree.Name) {
	copy(n.Checksum[:], key)
	n.Type = ostree.Type(key[len(n.Checksum)])
	return n
}

func minutes(t time.Time) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(t.Unix()/60))
}

// seen tells whether an object is in the set, and when it was seen to be there.
func (s *names) seen(n ostree.Name) (at time.Time, is bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		if v := tx.Bucket(objectsBucket).Get(nameKey(n)); len(v) == 4 {
			at, is = time.Unix(60*int64(binary.BigEndian.Uint32(v)), 0), true
		}
		return nil
	})
	return at, is, err
}

// mostAtOnce is how many names one transaction writes: it keeps the pages that it changes
// in memory.
const mostAtOnce = 20_000

// add adds names that were seen just now.
func (s *names) add(list ...ostree.Name) error {
	now := minutes(time.Now())
	return s.inParts(list, func(b *bbolt.Bucket, n ostree.Name) error {
		key := nameKey(n)
		if b.Get(key) == nil {
			if err := b.SetSequence(b.Sequence() + 1); err != nil {
				return err
			}
		}
		return b.Put(key, now)
	})
}

func (s *names) remove(list ...ostree.Name) error {
	return s.inParts(list, func(b *bbolt.Bucket, n ostree.Name) error {
		key := nameKey(n)
		if b.Get(key) == nil {
			return nil
		}
		return errors.Join(b.Delete(key), b.SetSequence(b.Sequence()-1))
	})
}

func (s *names) inParts(list []ostree.Name, do func(*bbolt.Bucket, ostree.Name) error) error {
	for len(list) > 0 {
		part := list[:min(mostAtOnce, len(list))]
		list = list[len(part):]
		err := s.db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(objectsBucket)
			for _, n := range part {
				if err := do(b, n); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("note which objects the bucket has: %w", err)
		}
	}
	return nil
}

// count is how many names there are: the sequence of their bucket counts them.
func (s *names) count() (count int, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		count = int(tx.Bucket(objectsBucket).Sequence())
		return nil
	})
	return count, err
}

// each visits the names whose checksum begins with a byte, in their order.
func (s *names) each(first byte, visit func(ostree.Name) error) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(objectsBucket).Cursor()
		for k, _ := c.Seek([]byte{first}); len(k) > 0 && k[0] == first; k, _ = c.Next() {
			if len(k) != len(ostree.Checksum{})+1 {
				continue // it is damaged
			}
			if err := visit(nameOf(k)); err != nil {
				return err
			}
		}
		return nil
	})
}
