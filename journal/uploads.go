// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// Upload is what came of one upload.
type Upload struct {
	Name    string // a pack's name, or the object's
	Size    int64  // bytes received
	Objects []Result
}

// Result is what came of one object of an upload.
type Result struct {
	Name       ostree.Name
	Size       int64  // bytes as stored
	Inflated   int64  // bytes that verification inflated
	Reason     string // why it was rejected; "" if it is staged
	Unfit      bool   // rejected since no file system can hold it: policy, not bad-objects
	CommitMeta []byte // the bytes of a commitmeta
}

// Record notes what came of one upload, in one transaction: the status of its
// objects, the problems of the rejected, detached metadata, and the counts. It
// may be repeated: bytes count once for each name of an upload, and those of an
// object that is staged already count as inflated only. A rejected object that
// is staged or present otherwise stays so. Every object must be in the set.
// *StateError if the session has ended.
func (j *Journal) Record(id string, up Upload) error {
	return j.update(func(tx *bbolt.Tx) error {
		e, err := j.edit(tx, id)
		if err != nil {
			return err
		}
		counted := e.set.uploads.Get([]byte(up.Name)) != nil
		for _, r := range up.Objects {
			if err := e.result(up.Name, r, counted); err != nil {
				return err
			}
		}
		if !counted {
			if err := e.count(up); err != nil {
				return err
			}
		}
		return e.save()
	})
}

// result notes what came of one object; its bytes, unless they were counted.
func (e *edit) result(upload string, r Result, counted bool) error {
	ord, known := e.set.find(r.Name)
	if !known {
		return fmt.Errorf("session %s: object %s of upload %s is not in its set", e.id, r.Name, upload)
	}
	old := e.set.statusOf(ord)
	if !counted {
		e.set.counts.Inflated += r.Inflated
	}
	if r.Reason != "" {
		return e.reject(r, ord, old)
	}
	if r.Name.Type == ostree.CommitMeta {
		fits, err := e.set.putCommitMeta(r.Name.Checksum, r.CommitMeta)
		if err != nil {
			return err
		}
		if !fits {
			r.Reason = fmt.Sprintf("the detached metadata of a session may have %d bytes in all", maxCommitMetas)
			return e.reject(r, ord, old)
		}
	}
	if !counted && old != Staged {
		e.set.counts.StagedBytes += r.Size
	}
	return e.change(r.Name, ord, Staged)
}

func (e *edit) reject(r Result, ord uint32, old Status) error {
	if old == Staged || old == Present {
		return nil
	}
	e.set.change(ord, Rejected)
	code := wire.BadObjects
	if r.Unfit {
		code = wire.Policy
	}
	return e.problems.addRejected(wire.ObjectProblem{Object: r.Name.String(), Code: code, Reason: r.Reason})
}

// count adds up an upload's own bytes, and remembers that they are counted.
func (e *edit) count(up Upload) error {
	e.set.counts.Received += up.Size
	size := binary.BigEndian.AppendUint64(nil, uint64(up.Size))
	return errors.Join(count(e.set.uploads, 1), e.set.uploads.Put([]byte(up.Name), size))
}

// ForgetUpload notes that an upload is gone and may come again under its name:
// its bytes count again then. An upload never recorded is no error, nor is a
// session that has ended.
func (j *Journal) ForgetUpload(id, name string) error {
	return j.update(func(tx *bbolt.Tx) error {
		if _, err := readRecord(tx, id); err != nil {
			return err
		}
		b := tx.Bucket(setsBucket).Bucket([]byte(id))
		if b == nil {
			return errUnchanged
		}
		uploads := b.Bucket(uploadsBucket)
		if uploads.Get([]byte(name)) == nil {
			return errUnchanged
		}
		return errors.Join(count(uploads, -1), uploads.Delete([]byte(name)))
	})
}
