// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// stamp is a number of this process, which is the nanoseconds in the time of
// modification of what it verified. So it knows those files again without a list
// of them, and whoever writes to one takes the stamp away.
type stamp int64

// newStamp draws a stamp. It is a multiple of 100, as some file systems keep no
// finer times.
func newStamp() stamp { return stamp(100 * (1 + rand.Int64N(1e7-1))) } // #nosec G404 -- no secret

// on is the time of modification of what is verified now.
func (s stamp) on(now time.Time) time.Time { return time.Unix(now.Unix(), int64(s)) }

// trustTime is how long what was verified is trusted unread: a disk that damages
// what it holds needs longer, as a rule.
const trustTime = 15 * time.Minute

// trusts tells whether a file of that time of modification was verified by this
// process a short time before now.
func (s stamp) trusts(mtime unix.Timespec, now time.Time) bool {
	age := now.Unix() - int64(mtime.Sec)
	return stamp(mtime.Nsec) == s && 0 <= age && age < int64(trustTime/time.Second)
}

// Check tells whether an object is staged and is what its name says. What this
// process verified a short time ago is not read again, which costs one system
// call. What is bad is deleted: it is lacking again. Whoever relies on the answer
// holds (Hold) meanwhile.
func (s *Store) Check(ctx context.Context, n ostree.Name) (good bool, err error) {
	dir, file := s.staged.place(n)
	var st unix.Stat_t
	err = unix.Fstatat(dir, file, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, wrap("look at staged object", n, err)
	case s.staged.stamp.trusts(st.Mtim, time.Now()):
		return true, nil
	}
	good, err = s.checkFile(ctx, n)
	return good, wrap("verify staged object", n, err)
}

// checkFile verifies a staged object as the disk has it, and stamps or deletes it.
func (s *Store) checkFile(ctx context.Context, n ostree.Name) (good bool, err error) {
	var v *ostree.Verifier
	select {
	case v = <-s.checkers:
		defer func() { s.checkers <- v }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	v.Step(ctx.Err)
	path := filepath.Join(s.staged.path, "objects", n.Path())
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	wrong, err := verifyOpen(v, n, f)
	if errors.Is(err, unix.EIO) {
		wrong, err = err, nil // a disk that cannot read it has lost it
	}
	if err != nil {
		return false, err
	}
	if wrong == nil {
		return true, durable.SetTime(f, s.staged.stamp.on(time.Now()))
	}
	s.cfg.Log.Warn("deleting a staged object that does not verify any more; it has to be sent again", "object", n, "err", wrong)
	return false, s.discard(path, f)
}

// discard deletes the bad file f at path, unless a good one has taken its place.
func (s *Store) discard(path string, f *os.File) error {
	s.discarding.Lock()
	defer s.discarding.Unlock()
	bad, err := f.Stat()
	if err != nil {
		return err
	}
	now, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(bad, now) {
		return nil
	}
	return errors.Join(err, os.Remove(path))
}

// Forget makes it possible to upload an object again that proved missing or bad
// after it had counted as staged. A bad file of that name is deleted, however short
// a time ago it was verified. So is an upload of the name that is done: it would
// answer that it is complete. One that is under way stays.
func (s *Store) Forget(session string, n ostree.Name) error {
	if _, err := s.checkFile(context.Background(), n); err != nil {
		return wrap("verify staged object", n, err)
	}
	fi, err := s.readInfo(session, n.String())
	if errors.Is(err, fs.ErrNotExist) || err == nil && !fi.Done {
		return nil
	}
	if err == nil {
		err = s.cfg.Journal.ForgetUpload(session, n.String())
	}
	if err == nil {
		err = s.remove(session, n.String())
	}
	if err != nil {
		return fmt.Errorf("forget the upload of %s in session %s: %w", n, session, err)
	}
	return nil
}
