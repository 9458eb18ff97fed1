// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/background"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// worker ingests one upload after the other. Its buffer holds a whole pack.
type worker struct {
	*Store
	task     *task
	verifier *ostree.Verifier
	steps    int // that the verification of an object has taken
	pack     []byte
	limits   Limits
	room     int64 // bytes that the session's objects may still inflate to
	decoding
}

// work ingests uploads, each in a goroutine, as the queue says, until ctx ends.
func (s *Store) work(ctx context.Context) {
	var g sync.WaitGroup
	s.queue.begin(s)
	defer s.pool.leave(s)
	defer g.Wait()
	for {
		t, ok := s.queue.pop(ctx, s)
		if !ok {
			return
		}
		g.Go(func() {
			shared, err := s.prepare(t)
			if err == nil {
				w := s.takeWorker(t)
				err = w.do(shared)
				s.release(w)
			}
			s.queue.finish(t, err)
		})
	}
}

// takeWorker takes a worker that has nothing to do, or makes one.
func (s *Store) takeWorker(t *task) (w *worker) {
	select {
	case w = <-s.pool.idle:
	default:
		w = &worker{verifier: ostree.NewVerifier(0)}
		w.verifier.Step(w.step)
	}
	if w.Store != nil && w.Store != s {
		_ = w.leave() // only its spool, which nobody reads any more
	}
	w.Store, w.task = s, t
	return w
}

// longObject is after how many steps of its verification an object counts as long:
// 64 MiB of it, stored or inflated. From then on its thread works in the background: a
// few small uploads that inflate to gigabytes would else slow each request and each
// publish.
const longObject = 1024

// step is taken about once for each 64 KiB of an object.
func (w *worker) step() error {
	if w.steps++; w.steps == longObject {
		background.Thread()
	}
	return w.queue.step(w.task)
}

// do ingests the worker's upload. After an error the upload stays complete and not
// done: the next Wait for its session tries it again and tells the client when it
// fails.
func (w *worker) do(shared bool) error {
	j := w.task.job
	err := w.ingest(j, shared)
	if closed := new(journal.StateError); errors.As(err, &closed) || errors.Is(err, journal.ErrNotFound) {
		return nil // the session has ended meanwhile
	}
	if err != nil && w.task.ctx.Err() == nil {
		w.cfg.Log.Error("cannot ingest an upload", "session", j.session, "upload", j.name, "err", err)
	}
	return err
}

// backlog is how many bytes of complete uploads of a token for each worker, those under
// way included, delay the creation of another, and throttleTime is for how long. In
// archive form that is one pack; of differences, which are long to ingest and short to
// send, some more, so that a thin link does not stand still meanwhile.
const (
	backlog      = wire.PackTarget
	throttleTime = 10 * time.Second
)

// Throttle delays the creation of an upload while the workers are far behind with
// those of its token: what waits for them takes space on the disk twice, and the
// time to write it.
func (s *Store) Throttle(ctx context.Context, token string) {
	ctx, cancel := context.WithTimeout(ctx, throttleTime)
	defer cancel()
	s.queue.waitBelow(ctx, token, s.cfg.Workers, backlog*int64(s.cfg.Workers))
}

// Wait returns when every upload of a session that is complete at the call is
// ingested. It tries those again that failed before, and returns the error of
// one that fails again.
func (s *Store) Wait(ctx context.Context, session string) error {
	failed, err := s.queue.wait(ctx, session)
	if err != nil || len(failed) == 0 {
		return err
	}
	for name := range failed {
		s.push(session, name)
	}
	if failed, err = s.queue.wait(ctx, session); err != nil {
		return err
	}
	for name, err := range failed {
		return fmt.Errorf("ingest upload %s of session %s: %w", name, session, err)
	}
	return nil
}

// ingest turns a complete upload into staged objects and notes what came of it.
func (w *worker) ingest(j job, shared bool) error {
	defer w.Hold()()
	u, err := w.upload(j.session, j.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the session has ended meanwhile
	}
	if err != nil || u.info.Done {
		return err
	}
	session, err := w.cfg.Journal.Session(j.session)
	if err != nil {
		return err
	}
	if session.State.Final() {
		return nil
	}
	w.limits, w.room = w.cfg.Limits(), math.MaxInt64
	if w.limits.MaxInflated > 0 {
		w.room = w.limits.MaxInflated - session.Counts.Inflated
	}
	if n, ok := u.object(); ok {
		return w.ingestObject(u, n)
	}
	if shared {
		return w.ingestShared(u)
	}
	return w.ingestPack(u)
}

// verify checks an object and counts what it inflates to. Why it is bad is the
// result's; an error is the server's own.
func (w *worker) verify(result *journal.Result, r io.Reader) (err error) {
	if w.room <= 0 {
		result.Reason = fmt.Sprintf("the session's objects may inflate to %d bytes in all (max-session-size)", w.limits.MaxInflated)
		return nil
	}
	limit := w.limits.MaxObjectSize
	if limit == 0 || w.room < limit {
		limit = w.room
	}
	w.verifier.Limit(limit)
	w.verifier.LimitMetadata(cmp.Or(w.limits.MaxMetadata, ostree.CommonMetadata))
	w.steps = 0
	result.Inflated, err = w.verifier.Verify(result.Name, r)
	w.room -= result.Inflated
	if bad := new(ostree.BadObjectError); errors.As(err, &bad) {
		result.Reason, result.Unfit, err = bad.Reason, bad.Unfit, nil
	}
	return err
}

// finish records what came of an upload, then marks it done, then drops its
// bytes: killed between any two, the next ingest does the rest.
func (w *worker) finish(u *upload, results []journal.Result) error {
	err := w.cfg.Journal.Record(u.session, journal.Upload{Name: u.name, Size: u.info.Size, Objects: results})
	if err != nil {
		return err
	}
	w.counters.results(results)
	w.stagedBytes(u.info.Size)
	if u.info.Salvaged {
		// Another pack may come under its name, and counts again.
		return errors.Join(w.cfg.Journal.ForgetUpload(u.session, u.name), w.remove(u.session, u.name))
	}
	u.info.Done = true
	if err := u.writeInfo(); err != nil {
		return err
	}
	w.claims.remove(u.session, u.name)
	return removeIfThere(w.dataPath(u.session, u.name))
}

// ingestObject verifies a single-object upload where it lies and moves it.
func (w *worker) ingestObject(u *upload, n ostree.Name) error {
	path := w.dataPath(u.session, u.name)
	result := journal.Result{Name: n, Size: u.info.Size}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && u.info.Size > 0 {
		// Moved by an ingest that was killed before it recorded this. The
		// object was verified again since, if the stop was unclean.
		return w.finish(u, []journal.Result{result})
	}
	if errors.Is(err, fs.ErrNotExist) {
		return w.reject(u, result, "an empty upload is no object")
	}
	if err != nil {
		return err
	}
	err = w.apart(func() error { return w.verify(&result, f) })
	if err == nil && n.Type == ostree.CommitMeta {
		result.CommitMeta, err = readAt(f, u.info.Size)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if result.Reason != "" {
		return w.reject(u, result, result.Reason)
	}
	if n.Type != ostree.CommitMeta {
		if err := w.staged.move(n, path); err != nil {
			return err
		}
	}
	return w.finish(u, []journal.Result{result})
}

func readAt(f *os.File, size int64) ([]byte, error) {
	b := make([]byte, size)
	_, err := f.ReadAt(b, 0)
	return b, err
}

// reject records why an object is refused and forgets its upload, so that it
// can be created again.
func (w *worker) reject(u *upload, result journal.Result, reason string) error {
	w.cfg.Log.Warn("object rejected", "session", u.session, "object", result.Name, "err", reason)
	result.Reason = reason
	results := []journal.Result{result}
	err := w.cfg.Journal.Record(u.session, journal.Upload{Name: u.name, Size: u.info.Size, Objects: results})
	if err == nil {
		w.counters.results(results)
		err = w.cfg.Journal.ForgetUpload(u.session, u.name)
	}
	if err != nil {
		return err
	}
	return w.remove(u.session, u.name)
}

// ingestPack verifies and stages the objects of a pack.
func (w *worker) ingestPack(u *upload) (err error) {
	var results []journal.Result
	err = w.apart(func() (err error) {
		results, err = w.stagePack(u)
		return err
	})
	if err != nil {
		return err
	}
	w.logRejected(u, results)
	return w.finish(u, results)
}

func (w *worker) stagePack(u *upload) ([]journal.Result, error) {
	b, err := w.readPack(u)
	if err != nil {
		return nil, err
	}
	pack, err := wire.ReadPack(b)
	if err != nil {
		w.cfg.Log.Warn("pack refused", "session", u.session, "upload", u.name, "err", err)
		return nil, nil
	}
	frames, err := w.wanted(u, pack)
	if err != nil {
		return nil, err
	}
	results := make([]journal.Result, 0, len(frames))
	for _, f := range frames {
		if err := w.queue.step(w.task); err != nil {
			return nil, err
		}
		r, err := w.stage(u, f)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

// apart calls f, which verifies, in a goroutine of its own: that may get slow, and what
// comes after it must not, for others wait for the journal meanwhile.
func (w *worker) apart(f func() error) error {
	ended := make(chan error)
	go func() {
		ended <- f()
	}()
	return <-ended
}

// logRejected tells of the first object of an upload that was rejected, and how many
// others were.
func (w *worker) logRejected(u *upload, results []journal.Result) {
	rejected := 0
	for _, r := range results {
		if r.Reason == "" {
			continue
		}
		if rejected++; rejected == 1 {
			w.cfg.Log.Warn("object rejected", "session", u.session, "upload", u.name, "object", r.Name, "err", r.Reason)
		}
	}
	if rejected > 1 {
		w.cfg.Log.Warn("more objects rejected", "session", u.session, "upload", u.name, "objects", rejected-1)
	}
}

// readPack reads an upload's bytes into the worker's buffer.
func (w *worker) readPack(u *upload) ([]byte, error) {
	f, err := os.Open(w.dataPath(u.session, u.name))
	if errors.Is(err, fs.ErrNotExist) && u.info.Size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if int64(cap(w.pack)) < u.info.Size {
		w.pack = make([]byte, u.info.Size)
	}
	b := w.pack[:u.info.Size]
	_, err = io.ReadFull(f, b)
	return b, errors.Join(err, f.Close())
}

// wanted lists the frames of a pack whose objects are in the session's set.
func (w *worker) wanted(u *upload, pack *wire.PackReader) ([]wire.Frame, error) {
	var frames []wire.Frame
	var names []ostree.Name
	for {
		f, ok := pack.Next()
		if !ok {
			break
		}
		frames = append(frames, f)
		names = append(names, f.Name)
	}
	if err := pack.Err(); err != nil {
		w.cfg.Log.Warn("pack ends early", "session", u.session, "upload", u.name, "err", err)
	}
	statuses, err := w.cfg.Journal.Statuses(u.session, names)
	if err != nil {
		return nil, err
	}
	kept := frames[:0]
	refused := 0
	for i, f := range frames {
		if statuses[i] != 0 {
			kept = append(kept, f)
			continue
		}
		if refused == 0 {
			w.cfg.Log.Warn("objects refused: not in the session's set", "session", u.session, "upload", u.name, "object", f.Name)
		}
		refused++
	}
	if refused > 1 {
		w.cfg.Log.Warn("more objects refused", "session", u.session, "upload", u.name, "objects", refused)
	}
	return kept, nil
}

// stage verifies one object of a pack and writes it. A bad object is a result;
// an error is the server's own.
func (w *worker) stage(u *upload, f wire.Frame) (journal.Result, error) {
	r := journal.Result{Name: f.Name, Size: int64(len(f.Payload))}
	if f.Encoding != wire.EncodingArchive {
		r.Reason = fmt.Sprintf("unknown encoding %d", f.Encoding)
	} else if err := w.verify(&r, bytes.NewReader(f.Payload)); err != nil {
		return r, err
	}
	switch {
	case r.Reason != "":
		return r, nil
	case f.Name.Type == ostree.CommitMeta:
		r.CommitMeta = bytes.Clone(f.Payload)
		return r, nil
	}
	return r, w.staged.put(f.Name, f.Payload)
}
