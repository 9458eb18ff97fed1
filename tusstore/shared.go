// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/lirios/ostree-upload/internal/delta"
	"github.com/lirios/ostree-upload/internal/encode"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// smallObject is how large an object may be that is made in memory.
const smallObject = wire.MaxPackPayload

// decoding is what a worker needs for packs of the second kind.
type decoding struct {
	reader   *encode.Reader
	delta    delta.Decoder
	archiver *ostree.Archiver
	level    int                         // of archiver
	small    bytes.Buffer                // an object that is made in memory
	spool    *os.File                    // without a name, for the source of a difference
	chunk    []byte                      // for copies
	made     int64                       // bytes of content that the pack has made
	sourced  int64                       // bytes of the sources of its differences, each time
	metas    int64                       // bytes of its detached metadata
	warned   bool                        // of a source that is damaged: once a pack
	readable map[ostree.Checksum]fileSet // commits that its differences are of; none that may not be read
}

// close frees what a pack with a large window leaves behind, and the spool.
func (d *decoding) close() error {
	if d.reader != nil {
		d.reader.Close()
		d.reader = nil
	}
	return d.leave()
}

// leave closes the spool, which is in the folder of a store.
func (d *decoding) leave() error {
	if d.spool == nil {
		return nil
	}
	err := d.spool.Close()
	d.spool = nil
	return err
}

// isShared tells whether an upload is a pack of the second kind, and the window that it
// needs. What is wrong with its stream is told when it is read.
func (s *Store) isShared(session, name string) (shared bool, window int64, refused, err error) {
	f, err := os.Open(s.dataPath(session, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, 0, nil, nil
	}
	if err != nil {
		return false, 0, nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	magic := make([]byte, len(encode.Magic))
	if _, err := io.ReadFull(f, magic); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, 0, nil, err
	}
	if string(magic) != encode.Magic {
		return false, 0, nil, nil
	}
	window, err = encode.Window(f)
	if failed := new(fs.PathError); errors.As(err, &failed) {
		return true, 0, nil, err
	}
	return true, window, err, nil
}

// ingestShared makes and stages the objects of a pack of the second kind, one after the
// other, while it is read.
func (w *worker) ingestShared(u *upload) error {
	if err := w.task.refused; err != nil {
		w.cfg.Log.Warn("pack refused", "session", u.session, "upload", u.name, "err", err)
		return w.finish(u, nil)
	}
	f, err := os.Open(w.dataPath(u.session, u.name))
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	if w.reader == nil {
		if w.reader, err = encode.NewReader(); err != nil {
			return err
		}
	}
	w.made, w.sourced, w.metas, w.warned = 0, 0, 0, false
	w.readable = map[ostree.Checksum]fileSet{}
	if err := w.reader.Reset(f); err != nil {
		return err
	}
	results, err := w.frames(u)
	if w.spool != nil {
		err = errors.Join(err, w.spool.Truncate(0))
	}
	if err != nil {
		return err
	}
	if err := w.reader.Err(); err != nil {
		w.cfg.Log.Warn("pack ends early", "session", u.session, "upload", u.name, "err", err)
	}
	w.logRejected(u, results)
	return w.finish(u, results)
}

// frames stages the frames of a pack until its end, or until it is damaged.
func (w *worker) frames(u *upload) (results []journal.Result, err error) {
	refused := 0
	seen := map[ostree.Name]bool{}
	for {
		f, ok := w.reader.Next()
		if !ok {
			break
		}
		if err := w.queue.step(w.task); err != nil {
			return nil, err
		}
		status, err := w.cfg.Journal.Statuses(u.session, []ostree.Name{f.Name})
		if err != nil {
			return nil, err
		}
		if status[0] == 0 {
			refused++
			continue
		}
		if seen[f.Name] {
			continue
		}
		seen[f.Name] = true
		r, err := w.stageFrame(u, f)
		if err != nil {
			return nil, err
		}
		if w.reader.Err() != nil {
			break // it is not whole
		}
		results = append(results, r)
	}
	if refused > 0 {
		w.cfg.Log.Warn("objects refused: not in the session's set", "session", u.session, "upload", u.name, "objects", refused)
	}
	return results, w.reader.Failed()
}

// stageFrame makes an object of a frame and stages it. A bad one is a result, and so is
// one whose source is not here; an error is the server's own.
func (w *worker) stageFrame(u *upload, f encode.Frame) (r journal.Result, err error) {
	r = journal.Result{Name: f.Name}
	switch {
	case f.Encoding > encode.Delta:
		r.Reason = fmt.Sprintf("unknown encoding %d", f.Encoding)
	case f.Encoding == encode.Archive:
		r.Size = int64(f.Length)
		err = w.stageArchive(u, &r)
	case f.Name.Type != ostree.File:
		r.Reason = fmt.Sprintf("encoding %d is for files", f.Encoding)
	default:
		err = w.stageContent(u, f, &r)
	}
	return r, err
}

// stageArchive stages an object that came as it is stored.
func (w *worker) stageArchive(u *upload, r *journal.Result) error {
	out, err := w.output(u, r.Size)
	if err != nil {
		return err
	}
	defer out.drop()
	if r.Name.Type != ostree.File && r.Size > max(w.limits.MaxMetadata, ostree.CommonMetadata) {
		r.Reason = fmt.Sprintf("it is larger than %d bytes (max-metadata-size)", max(w.limits.MaxMetadata, ostree.CommonMetadata))
		return nil
	}
	if _, err := w.copy(out, stepped{w}); err != nil {
		return w.blame(r, err)
	}
	return w.keep(r, out)
}

// copy is io.Copy with the worker's buffer.
func (w *worker) copy(to io.Writer, from io.Reader) (int64, error) {
	if w.chunk == nil {
		w.chunk = make([]byte, 64<<10)
	}
	return io.CopyBuffer(struct{ io.Writer }{to}, from, w.chunk)
}

// stepped is the payload of the present frame, with a step before each read.
type stepped struct{ w *worker }

func (s stepped) Read(p []byte) (int, error) {
	if err := s.w.step(); err != nil {
		return 0, err
	}
	return s.w.reader.Read(p)
}

func (s stepped) ReadByte() (byte, error) { return s.w.reader.ReadByte() }

// stageContent makes the archive form of content that came as it is or as a difference.
func (w *worker) stageContent(u *upload, f encode.Frame, r *journal.Result) error {
	var from encode.Source
	if f.Encoding == encode.Delta {
		var err error
		if from, err = w.reader.Source(); err != nil {
			r.Reason = err.Error()
			return nil
		}
	}
	head, h, err := ostree.ReadHead(w.reader)
	if err != nil {
		r.Reason = err.Error()
		return nil
	}
	if r.Reason = w.unfit(f, &h); r.Reason != "" {
		return nil
	}
	if f.Encoding == encode.Delta {
		if r.Reason, err = w.openSource(u, from); r.Reason != "" || err != nil {
			return err
		}
	}
	out, err := w.output(u, int64(h.Size))
	if err != nil {
		return err
	}
	defer out.drop()
	if err := w.make(f, from, head, &h, out); err != nil {
		return w.blame(r, err)
	}
	r.Size = out.size
	return w.keep(r, out)
}

// unfit tells why content of this header is not made, or "".
func (w *worker) unfit(f encode.Frame, h *ostree.FileHeader) string {
	limit := w.limits.MaxObjectSize
	if limit > 0 && h.Size > uint64(limit) {
		return fmt.Sprintf("size says %d, more than the %d that an object may have (max-object-size)", h.Size, limit)
	}
	if w.room < int64(min(h.Size, 1<<62)) {
		return fmt.Sprintf("the session's objects may inflate to %d bytes in all (max-session-size)", w.limits.MaxInflated)
	}
	if f.Encoding == encode.Delta && h.Size > encode.MaxSource {
		return fmt.Sprintf("size says %d, and a difference makes at most %d", h.Size, int64(encode.MaxSource))
	}
	if f.Encoding == encode.Content && h.Size != w.reader.Left() {
		return fmt.Sprintf("size says %d, content has %d bytes", h.Size, w.reader.Left())
	}
	if w.made += int64(h.Size); w.made > encode.MaxMade {
		w.reader.End(encode.ErrMade)
		return encode.ErrMade.Error()
	}
	return ""
}

// make writes the archive form of an object to out, and compares its checksum.
func (w *worker) make(f encode.Frame, from encode.Source, head []byte, h *ostree.FileHeader, out io.Writer) (err error) {
	if level := w.repo.ZlibLevel(); w.archiver == nil || w.level != level {
		if w.archiver, err = ostree.NewArchiver(level); err != nil {
			return err
		}
		w.level = level
	}
	if err := w.archiver.Begin(out, head, h); err != nil {
		return err
	}
	if f.Encoding == encode.Delta {
		err = w.delta.Decode(steppedOut{w}, stepped{w}, w.spool, from.Size, int64(h.Size))
		if err == nil && w.reader.Left() > 0 {
			return errFollows
		}
	} else {
		_, err = w.copy(steppedOut{w}, stepped{w})
	}
	if err != nil {
		return err
	}
	return w.archiver.End(f.Name)
}

var errFollows = &frameError{"something follows its difference"}

// A frameError says what is wrong with a frame.
type frameError struct{ reason string }

func (e *frameError) Error() string { return e.reason }

// steppedOut is the archiver, with a step before each write.
type steppedOut struct{ w *worker }

func (s steppedOut) Write(p []byte) (int, error) {
	if err := s.w.step(); err != nil {
		return 0, err
	}
	return s.w.archiver.Write(p)
}

// blame makes an error the result of its object if that is to blame.
func (w *worker) blame(r *journal.Result, err error) error {
	var content *ostree.ContentError
	var difference *delta.BadError
	var frame *frameError
	switch {
	case errors.As(err, &content), errors.As(err, &difference), errors.As(err, &frame):
		r.Reason = err.Error()
		return nil
	case w.reader.Err() != nil && w.reader.Failed() == nil && errors.Is(err, w.reader.Err()):
		return nil // the pack ends within the frame
	}
	return err
}

// keep verifies what was made as any other object, and stages it.
func (w *worker) keep(r *journal.Result, out *output) error {
	if w.reader.Err() != nil {
		return nil
	}
	made, err := out.reader()
	if err != nil {
		return err
	}
	if err := w.verify(r, made); err != nil || r.Reason != "" {
		return err
	}
	if r.Name.Type == ostree.CommitMeta {
		return w.keepMeta(r, out)
	}
	return out.stage(r.Name)
}

// keepMeta keeps detached metadata, which is in memory until the pack is recorded.
func (w *worker) keepMeta(r *journal.Result, out *output) (err error) {
	if w.metas += out.size; w.metas > encode.MaxMetas {
		w.reader.End(encode.ErrMetas)
		return nil
	}
	r.CommitMeta, err = out.bytes()
	return err
}
