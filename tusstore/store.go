// SPDX-License-Identifier: AGPL-3.0-or-later

// Package tusstore is the staging of a push: it takes the bytes of tus uploads
// and turns complete ones into verified objects.
//
//   - An upload exists when its .info file does. Its offset is the length of
//     its data file, or its whole size once it is done.
//   - staged/ is an archive-mode OSTree repository. An object gets there whole
//     and verified or not at all, and is never changed there.
//   - What is staged counts as good for the process that verified it, and for the
//     next one after a clean stop, which leaves a mark (Close). Before a ref names
//     it, Check reads it again, unless it was verified a short time ago.
//   - Every complete upload is ingested, by this process or by the next one:
//     split, verified, staged, recorded in the journal, marked done, in this
//     order. Each step may be repeated.
//   - Nothing here waits for the disk: publishing makes staged objects durable
//     before a ref names them, and what a power cut takes from an upload is
//     sent again.
//
// Sizes and offsets are bytes. A Store may be used by many goroutines.
package tusstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tus/tusd/v2/pkg/memorylocker"
	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// Config says where a Store works and how.
type Config struct {
	Dir     string           // the state folder; uploads/ and staged/ are made in it
	Repo    *ostree.Repo     // the repository, whose disk must have room for what is staged
	Journal *journal.Journal // knows the sessions and their object sets
	Workers int              // uploads that are ingested at a time
	Pool    *Pool            // of so many workers, for other stores as well; nil: one of its own
	Limits  func() Limits    // as they are now; asked for each upload
	MayPush func(token, ref string) bool
	Verify  bool // all staged objects, even after a clean stop
	Log     *slog.Logger
}

// Limits bound what a client may send; 0 means no limit.
type Limits struct {
	MaxObjectSize int64 // of a content object, inflated
	MaxMetadata   int64 // of a metadata object; 0: ostree.CommonMetadata
	MaxInflated   int64 // of all objects of a session, inflated
	MinFree       int64 // of the disk: nothing is made of a pack beyond that
}

// Store holds uploads and staged objects. It is the tus server's DataStore.
type Store struct {
	cfg     Config
	uploads string
	staged  *staged
	clean   bool // the stop before was clean
	queue   *queue
	claims  *claims
	repo    *ostree.Repo // where the sources of differences are
	sources sources
	locker  *memorylocker.MemoryLocker

	counters counters

	creating sync.Map     // the jobs whose uploads are just being created
	cleaning sync.RWMutex // held for writing while staged objects are deleted

	pool       *Pool
	checkers   chan *ostree.Verifier // the same, of Check
	discarding sync.Mutex            // held while one is deleted that Check found bad

	unsynced atomic.Int64  // bytes staged since the last early sync began
	toSync   chan struct{} // wakes it
}

// Open opens the store in cfg.Dir and makes what is missing of it. After an
// unclean stop of the process before, it verifies every staged object again, and
// those that are lost count as missing.
// Uploads that were complete wait for Run.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{
		cfg:     cfg,
		uploads: filepath.Join(cfg.Dir, "uploads"),
		claims:  newClaims(),
		locker:  memorylocker.New(),
		toSync:  make(chan struct{}),
		repo:    cfg.Repo,

		checkers: make(chan *ostree.Verifier, cfg.Workers),
	}
	if s.pool = cfg.Pool; s.pool == nil {
		s.pool = NewPool(cfg.Workers)
	}
	s.queue = s.pool.queue
	for range cfg.Workers {
		s.checkers <- ostree.NewVerifier(0)
	}
	if err := makeIn(cfg.Dir, 0o700, "uploads"); err != nil {
		return nil, err
	}
	var err error
	if s.staged, err = openStaged(filepath.Join(cfg.Dir, "staged")); err != nil {
		return nil, err
	}
	if err = s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Close(s.clean && !errors.Is(err, durable.ErrNotSynced)))
	}
	return s, nil
}

// start brings what the process before left to where this one goes on.
func (s *Store) start(ctx context.Context) (err error) {
	if err := s.try(); err != nil {
		return err
	}
	if s.clean, err = s.takeMark(); err != nil {
		return err
	}
	if s.cfg.Verify || !s.clean {
		if err := s.reverify(ctx); err != nil {
			return err
		}
		if err := s.withdrawLost(); err != nil {
			return err
		}
	}
	return s.recoverUploads()
}

// Run ingests complete uploads until ctx ends. An upload that is being ingested
// then stays complete, and the next process ingests it. An error means that the
// disk cannot be trusted.
func (s *Store) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		s.work(ctx)
		return nil
	})
	g.Go(func() error { return s.syncEarly(ctx) })
	return g.Wait()
}

// syncEvery is how many bytes are staged between two early syncs.
const syncEvery = 64 << 20

// syncEarly makes staged objects durable while others still arrive, so that
// publishing, which has to wait for that, finds little left to do.
func (s *Store) syncEarly(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.toSync:
		}
		// Never tried again: a sync that failed may have dropped the bytes.
		if err := durable.SyncFS(s.staged.path); err != nil {
			return fmt.Errorf("make staged objects durable: %w", err)
		}
	}
}

// stagedBytes counts what was staged and wakes syncEarly when it is much.
func (s *Store) stagedBytes(n int64) {
	if s.unsynced.Add(n) < syncEvery {
		return
	}
	select {
	case s.toSync <- struct{}{}:
		s.unsynced.Store(0)
	default: // one is under way; the next pack asks again
	}
}

// Close ends the use of the store, after Run. A clean one makes what is staged
// durable and vouches for it; after any other the next Open verifies it again.
func (s *Store) Close(clean bool) error {
	var err error
	s.pool.leave(s) // also if it did not Run
	if clean {
		err = s.leaveMark()
	}
	return errors.Join(err, s.staged.close())
}

// WasClean tells whether the stop before this Open was clean.
func (s *Store) WasClean() bool { return s.clean }

// StagedPath is the repository of verified objects.
func (s *Store) StagedPath() string { return s.staged.path }

// Has tells whether a verified object is staged, by whatever session.
func (s *Store) Has(n ostree.Name) (bool, error) { return s.staged.has(n) }

// Locker is the lock of each upload, for the tus server.
func (s *Store) Locker() *memorylocker.MemoryLocker { return s.locker }

// Uploads lists the uploads of a session that are not done. It does not look at
// the files, and never goes through HEAD, which would cut a writer off.
func (s *Store) Uploads(session string) []wire.Upload { return s.claims.list(session) }

// TokenUploads counts the uploads of all sessions of a token that are not done.
func (s *Store) TokenUploads(token string) int { return s.claims.count(token) }

// Received is how many bytes have come of those uploads.
func (s *Store) Received(session string) int64 { return s.claims.received(session) }

// Drop forgets all uploads of a session that has ended. It cuts off those who
// are still sending.
func (s *Store) Drop(session string) error {
	ctx, cancel := context.WithTimeout(context.Background(), dropTime)
	defer cancel()
	for _, u := range s.Uploads(session) {
		if unlock, err := s.lock(ctx, session, u.Name); err == nil {
			unlock()
		} // else its bytes go on into a file without a name
	}
	s.claims.removeAll(session)
	s.queue.forget(session)
	return os.RemoveAll(filepath.Join(s.uploads, session))
}

// dropTime bounds the wait for those who are cut off.
const dropTime = 5 * time.Second

// lock takes the lock of an upload, cutting off a writer that holds it.
func (s *Store) lock(ctx context.Context, session, name string) (unlock func(), err error) {
	l, err := s.locker.NewLock(ID(session, name))
	if err != nil {
		return nil, err
	}
	if err := l.Lock(ctx, func() {}); err != nil {
		return nil, err
	}
	return func() { _ = l.Unlock() }, nil // the memory locker's never fails
}

// push hands a complete upload to the workers.
func (s *Store) push(session, name string) {
	token, bytes := s.claims.upload(session, name)
	s.queue.push(s, token, job{session, name}, bytes)
}

// recoverUploads puts the uploads that the process before left behind where
// this one expects them: complete ones into the queue, those of sessions that
// have ended away.
func (s *Store) recoverUploads() error {
	sessions, err := os.ReadDir(s.uploads)
	if err != nil {
		return err
	}
	for _, dir := range sessions {
		session, err := s.cfg.Journal.Session(dir.Name())
		switch {
		case errors.Is(err, journal.ErrNotFound), err == nil && session.State.Final():
			s.cfg.Log.Info("dropping uploads of a session that has ended", "session", dir.Name())
			err = s.Drop(dir.Name())
		case err == nil:
			err = s.recoverSession(dir.Name(), session.Token)
		}
		if err != nil {
			return fmt.Errorf("recover uploads of session %s: %w", dir.Name(), err)
		}
	}
	return nil
}

func (s *Store) recoverSession(session, token string) error {
	files, err := os.ReadDir(filepath.Join(s.uploads, session))
	if err != nil {
		return err
	}
	for _, f := range files {
		if name, ok := uploadOfInfo(f.Name()); ok {
			if err := s.recoverUpload(session, token, name); err != nil {
				return err
			}
		}
	}
	for _, f := range strays(files) {
		s.cfg.Log.Warn("dropping a file that belongs to no upload", "session", session, "upload", f)
		if err := os.Remove(filepath.Join(s.uploads, session, f)); err != nil {
			return err
		}
	}
	return nil
}

// strays names the files of a session's folder that belong to no upload.
func strays(files []fs.DirEntry) (names []string) {
	infos := make(map[string]bool)
	for _, f := range files {
		if name, ok := uploadOfInfo(f.Name()); ok {
			infos[name] = true
		}
	}
	for _, f := range files {
		if _, isInfo := uploadOfInfo(f.Name()); !isInfo && !infos[f.Name()] {
			names = append(names, f.Name())
		}
	}
	return names
}

func (s *Store) recoverUpload(session, token, name string) error {
	u, err := s.upload(session, name)
	if err != nil {
		s.cfg.Log.Warn("dropping an upload whose .info cannot be read", "session", session, "upload", name, "err", err)
		return s.remove(session, name)
	}
	if lost, err := s.lostObject(u); err != nil || lost {
		return errors.Join(err, s.cfg.Journal.ForgetUpload(session, name), s.remove(session, name))
	}
	if u.info.Done {
		return removeIfThere(s.dataPath(session, name))
	}
	s.claims.set(session, token, name, progress{size: u.info.Size})
	if err := s.recoverData(u); err != nil {
		return err
	}
	if u.offset == u.info.Size {
		s.push(session, name)
	}
	return nil
}

// recoverData notes what is there of an upload, and has it verified as the disk
// has it.
func (s *Store) recoverData(u *upload) error {
	f, err := os.Open(s.dataPath(u.session, u.name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil {
		s.claims.arrived(u.session, u.name, st.Size(), st.ModTime())
		err = durable.Uncache(f)
	}
	return errors.Join(err, f.Close())
}

// remove forgets one upload.
func (s *Store) remove(session, name string) error {
	s.claims.remove(session, name)
	// The data first: an .info without data is an upload at offset 0, data
	// without an .info is a file that nobody asks for.
	return errors.Join(removeIfThere(s.dataPath(session, name)), removeIfThere(s.infoPath(session, name)))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// lostObject tells whether u brought an object that is staged no more: it did
// not verify after an unclean stop, and its client has to send it again.
func (s *Store) lostObject(u *upload) (bool, error) {
	n, err := ostree.ParseName(u.name)
	if err != nil || !u.info.Done || n.Type == ostree.CommitMeta {
		return false, nil
	}
	there, err := s.Has(n)
	return !there, err
}
