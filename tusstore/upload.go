// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tus/tusd/v2/pkg/handler"
	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

const infoSuffix = ".info"

// ErrExists is the tus server's answer to a second creation of an upload.
var ErrExists = handler.NewError("ERR_UPLOAD_EXISTS", "the upload exists already; HEAD tells its offset", http.StatusConflict)

// errNoSpace is its answer when the disk is full.
var errNoSpace = handler.NewError("ERR_INSUFFICIENT_STORAGE", "no space left on the server", http.StatusInsufficientStorage)

// errIngesting refuses to end an upload whose bytes are just being verified.
var errIngesting = handler.NewError("ERR_UPLOAD_LOCKED", "the upload is complete and being verified", http.StatusLocked)

// info is the content of an .info file: tusd's record, and whether the upload
// was ingested.
type info struct {
	handler.FileInfo
	Done     bool `json:",omitempty"` // its data is gone, its objects are staged or rejected
	Salvaged bool `json:",omitempty"` // closed at its offset; goes once ingested
}

// upload is one upload as it was when it was looked up.
type upload struct {
	store         *Store
	session, name string
	info          info
	offset        int64
}

// ID makes the tus upload ID of a name within a session.
func ID(session, name string) string { return session + "/" + name }

// SplitID takes an upload ID apart. It is false for anything but a session's
// ID, a slash and an object or pack name.
func SplitID(id string) (session, name string, ok bool) {
	session, name, ok = strings.Cut(id, "/")
	return session, name, ok && wire.IsSessionID(session) && isUploadName(name)
}

func isUploadName(name string) bool {
	if wire.IsPackName(name) {
		return true
	}
	_, err := ostree.ParseName(name)
	return err == nil
}

func uploadOfInfo(file string) (name string, ok bool) {
	name, ok = strings.CutSuffix(file, infoSuffix)
	return name, ok && isUploadName(name)
}

func (s *Store) dataPath(session, name string) string { return filepath.Join(s.uploads, session, name) }
func (s *Store) infoPath(session, name string) string { return s.dataPath(session, name) + infoSuffix }

// NewUpload creates the upload fi.ID, which the caller has checked. It
// implements handler.DataStore; the error is ErrExists if it is there.
func (s *Store) NewUpload(_ context.Context, fi handler.FileInfo) (handler.Upload, error) {
	session, name, ok := SplitID(fi.ID)
	if !ok {
		return nil, handler.ErrNotFound
	}
	if err := os.Mkdir(filepath.Join(s.uploads, session), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, storageError(err)
	}
	u := &upload{store: s, session: session, name: name, info: info{FileInfo: fi}}
	if err := u.create(); err != nil {
		return nil, storageError(err)
	}
	// The session may have ended, and been dropped, since the caller looked.
	now, err := s.cfg.Journal.Head(session)
	if err == nil {
		s.claims.set(session, now.Token, name, progress{size: fi.Size})
	}
	if err != nil || now.State.Final() {
		return nil, errors.Join(handler.ErrNotFound, s.Drop(session))
	}
	return u, nil
}

// create writes the .info file of a new upload; the error is ErrExists if it is
// there. One process has the store, so that it need not ask the file system for
// what some lack, a link or a rename that replaces nothing.
func (u *upload) create() error {
	s, j := u.store, job{u.session, u.name}
	if _, other := s.creating.LoadOrStore(j, nil); other {
		return ErrExists
	}
	defer s.creating.Delete(j)
	there, err := exists(s.infoPath(u.session, u.name))
	if err == nil && there {
		return ErrExists
	}
	if err != nil {
		return err
	}
	return u.writeInfo()
}

// GetUpload finds an upload. It implements handler.DataStore.
func (s *Store) GetUpload(_ context.Context, id string) (handler.Upload, error) {
	session, name, ok := SplitID(id)
	if !ok {
		return nil, handler.ErrNotFound
	}
	u, err := s.upload(session, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, handler.ErrNotFound
	}
	if err != nil {
		// The answer to HEAD has no body that could say so.
		s.cfg.Log.Error("cannot look up an upload", "session", session, "upload", name, "err", err)
	}
	return u, err
}

// AsTerminatableUpload implements handler.TerminaterDataStore.
func (s *Store) AsTerminatableUpload(u handler.Upload) handler.TerminatableUpload { return u.(*upload) }

// upload reads an upload from the disk.
func (s *Store) upload(session, name string) (*upload, error) {
	fi, err := s.readInfo(session, name)
	if err != nil {
		return nil, err
	}
	u := &upload{store: s, session: session, name: name, info: fi}
	u.offset, err = s.offset(u)
	if u.offset > 0 || err != nil {
		return u, err
	}
	// No data: there is none yet, or the upload was ingested since its .info was
	// read, which says so now.
	if u.info, err = s.readInfo(session, name); err == nil && u.info.Done {
		u.offset = u.info.Size
	}
	return u, err
}

func (s *Store) readInfo(session, name string) (fi info, err error) {
	b, err := os.ReadFile(s.infoPath(session, name))
	if err != nil {
		return fi, err
	}
	if err := json.Unmarshal(b, &fi); err != nil {
		return fi, fmt.Errorf("its .info: %w", err)
	}
	return fi, nil
}

// offset tells how many bytes of an upload the server has.
func (s *Store) offset(u *upload) (int64, error) {
	if u.info.Done {
		return u.info.Size, nil
	}
	st, err := os.Stat(s.dataPath(u.session, u.name))
	if err == nil {
		return st.Size(), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	// A killed ingest moved the object to its place and recorded nothing.
	if n, ok := u.object(); ok && n.Type != ostree.CommitMeta {
		if there, err := s.staged.has(n); err != nil || there {
			return u.info.Size, err
		}
	}
	return 0, nil
}

// object is the object that travels in this upload, unless it is a pack.
func (u *upload) object() (ostree.Name, bool) {
	n, err := ostree.ParseName(u.name)
	return n, err == nil
}

// writeInfo writes or replaces the .info file. A power cut may take it, and the
// upload with it, which costs sending it again.
func (u *upload) writeInfo() error {
	b, err := json.Marshal(u.info)
	if err != nil {
		return err
	}
	return durable.Write(u.store.infoPath(u.session, u.name), b)
}

// GetInfo implements handler.Upload.
func (u *upload) GetInfo(context.Context) (handler.FileInfo, error) {
	fi := u.info.FileInfo
	fi.Offset = u.offset
	return fi, nil
}

// copyBuffers bounds what a chunk costs in memory: one buffer a connection.
var copyBuffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// WriteChunk appends to the data file. It implements handler.Upload: it
// returns how many bytes are in the file even when it fails.
func (u *upload) WriteChunk(_ context.Context, offset int64, src io.Reader) (int64, error) {
	path := u.store.dataPath(u.session, u.name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return 0, storageError(err)
	}
	buf := copyBuffers.Get().(*[256 << 10]byte)
	defer copyBuffers.Put(buf)
	// Hiding the file's ReadFrom, which would bring a buffer of its own.
	n, err := io.CopyBuffer(&chunk{upload: u, file: f, offset: offset}, src, buf[:])
	return n, storageError(errors.Join(err, f.Close()))
}

// chunk writes an upload's bytes from an offset on, and notes those that came.
type chunk struct {
	*upload
	file   *os.File
	offset int64
}

func (c *chunk) Write(p []byte) (int, error) {
	n, err := c.file.WriteAt(p, c.offset)
	c.offset += int64(n)
	c.store.counters.received.Add(int64(n))
	c.store.claims.arrived(c.session, c.name, c.offset, time.Now())
	return n, err
}

// storageError gives a full disk its own status.
func storageError(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return errNoSpace
	}
	return err
}

// GetReader implements handler.Upload; uploads cannot be downloaded.
func (u *upload) GetReader(context.Context) (io.ReadCloser, error) {
	return nil, handler.ErrNotImplemented
}

// FinishUpload hands a complete upload to the workers. It implements
// handler.Upload and runs under the upload's lock, so it does not wait.
func (u *upload) FinishUpload(context.Context) error {
	u.store.push(u.session, u.name)
	return nil
}

// Terminate forgets the upload, unless it is being ingested.
func (u *upload) Terminate(context.Context) error {
	if u.store.queue.has(job{u.session, u.name}) {
		return errIngesting
	}
	if err := u.store.cfg.Journal.ForgetUpload(u.session, u.name); err != nil {
		return err
	}
	return u.store.remove(u.session, u.name)
}

// Salvage closes every unfinished pack of a session at the bytes that arrived,
// cutting off a writer that is still connected, and has their whole objects
// ingested like those of complete packs.
func (s *Store) Salvage(ctx context.Context, session string) error {
	for _, up := range s.Uploads(session) {
		if wire.IsPackName(up.Name) {
			if err := s.salvage(ctx, session, up.Name); err != nil {
				return fmt.Errorf("salvage upload %s: %w", up.Name, err)
			}
		}
	}
	return nil
}

func (s *Store) salvage(ctx context.Context, session, name string) error {
	unlock, err := s.lock(ctx, session, name)
	if err != nil {
		return err
	}
	defer unlock()
	u, err := s.upload(session, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case u.info.Done || u.offset == u.info.Size:
		return nil // complete: the workers have it already
	case u.offset == 0:
		return s.remove(session, name)
	}
	u.info.Size, u.info.Salvaged = u.offset, true
	if err := u.writeInfo(); err != nil {
		return err
	}
	token, _ := s.claims.upload(session, name)
	s.claims.set(session, token, name, progress{u.offset, u.offset})
	s.push(session, name)
	return nil
}
