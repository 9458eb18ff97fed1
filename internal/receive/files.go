// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tus/tusd/v2/pkg/handler"
	expslog "golang.org/x/exp/slog"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/tusstore"
)

// newTus makes the tus server over the store. Who may do what was decided
// before a request gets there.
func newTus(cfg Config) (http.Handler, error) {
	composer := handler.NewStoreComposer()
	composer.UseCore(cfg.Store)
	composer.UseTerminater(cfg.Store)
	composer.UseLocker(cfg.Store.Locker())
	h, err := handler.NewHandler(handler.Config{
		StoreComposer:        composer,
		BasePath:             uploadsPath,
		DisableDownload:      true,
		DisableConcatenation: true,
		Cors:                 &handler.CorsConfig{Disable: true},
		Logger:               expslog.New(debugLog{cfg.Log.Handler()}),
		// Its goroutines outlive each request by this.
		GracefulRequestCompletionTimeout: time.Second,
		PreUploadCreateCallback: func(hook handler.HookEvent) (handler.HTTPResponse, handler.FileInfoChanges, error) {
			session, name := uploadName(hook.Upload.MetaData)
			return handler.HTTPResponse{}, handler.FileInfoChanges{ID: tusstore.ID(session, name)}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	return http.StripPrefix(uploadsPath, h), nil
}

// uploadName is where an upload's metadata says that it belongs.
func uploadName(meta map[string]string) (session, name string) {
	return meta["session"], meta["object"] + meta["pack"]
}

// files is everything under /files/: it checks, then lets tusd answer.
func (s *Server) files(w http.ResponseWriter, r *http.Request) {
	var err error
	id := strings.TrimPrefix(r.URL.Path, uploadsPath)
	switch {
	case r.Method == http.MethodOptions: // tells what tus can do
	case id == "" && r.Method == http.MethodPost:
		err = s.checkCreation(r)
	case id == "":
		err = notAllowed(w, r, http.MethodPost)
	default:
		err = s.checkUpload(w, r, id)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	tw := &tusWriter{ResponseWriter: w}
	s.tus.ServeHTTP(tw, r)
	if tw.status >= 400 {
		writeProblem(w, r, tw.problem())
	}
}

func notAllowed(w http.ResponseWriter, r *http.Request, methods ...string) error {
	w.Header().Set("Allow", strings.Join(methods, ", "))
	p := wire.Errorf(wire.BadRequest, "%s cannot be asked for with %s", r.URL.Path, r.Method)
	p.Status = http.StatusMethodNotAllowed
	return p
}

// checkUpload lets a request through to an upload of a session of its token.
// Only its offset can still be asked for once the session is no longer open.
func (s *Server) checkUpload(w http.ResponseWriter, r *http.Request, id string) error {
	sessionID, _, ok := tusstore.SplitID(id)
	if !ok {
		return wire.Errorf(wire.NotFound, "there is no upload %.200q", id)
	}
	session, err := s.own(r, sessionID)
	if err != nil {
		return err
	}
	switch r.Method {
	case http.MethodHead:
		return nil
	case http.MethodPatch, http.MethodDelete:
	default:
		return notAllowed(w, r, http.MethodHead, http.MethodPatch, http.MethodDelete)
	}
	if session.State != journal.Open {
		return closed(&session)
	}
	return s.touch(sessionID)
}

func (s *Server) touch(session string) error {
	return s.cfg.Journal.Touch(session, time.Duration(s.cfg.Settings().SessionTTL))
}

// checkCreation refuses an upload that the session did not announce or that
// cannot be what it says.
func (s *Server) checkCreation(r *http.Request) error {
	meta := handler.ParseMetadataHeader(r.Header.Get("Upload-Metadata"))
	if meta["session"] == "" || (meta["object"] == "") == (meta["pack"] == "") {
		return wire.Errorf(wire.BadRequest, "Upload-Metadata needs session, and either object or pack")
	}
	if !isDigest(meta["digest"]) {
		return wire.Errorf(wire.BadRequest, "Upload-Metadata: digest is not the hex SHA-256 of the upload")
	}
	session, err := s.own(r, meta["session"])
	if err != nil {
		return err
	}
	if session.State != journal.Open {
		return closed(&session)
	}
	if meta["pack"] != "" {
		err = checkPack(r, meta["pack"])
	} else {
		err = s.checkObject(r, session.ID, meta["object"])
	}
	if err == nil {
		err = s.checkSpace(r, &session)
	}
	if err != nil {
		return err
	}
	s.cfg.Store.Room(r.Context())
	return s.touch(session.ID)
}

// maxUploads is how many uploads of a session may be under way: each reserves
// its size on the disk.
const maxUploads = 256

// checkSpace refuses an upload for which there is no room: in the session's
// share, or on the disk, before it is full.
func (s *Server) checkSpace(r *http.Request, session *journal.Session) error {
	length, err := strconv.ParseInt(r.Header.Get("Upload-Length"), 10, 64)
	if err != nil {
		return nil // tusd says what is wrong with it
	}
	limits := s.cfg.Settings().Limits
	total := session.Counts.Received + length
	uploads := s.cfg.Store.Uploads(session.ID)
	for _, u := range uploads {
		total += u.Size
	}
	if len(uploads) >= maxUploads {
		return wire.Errorf(wire.Quota, "session %s has %d uploads under way", session.ID, len(uploads)).
			WithHint("finish or terminate some first")
	}
	if limit := int64(limits.MaxSessionSize); limit > 0 && total > limit {
		return wire.Errorf(wire.TooLarge, "session %s may have %d bytes in all (max-session-size), with this upload it would have %d", session.ID, limit, total)
	}
	free, err := s.cfg.Store.Free()
	if err != nil {
		return err
	}
	if free-length < int64(limits.MinFreeSpace) {
		return wire.Errorf(wire.InsufficientStorage, "the upload has %d bytes and %d are to stay free (min-free-space), but only %d are free on the server", length, int64(limits.MinFreeSpace), max(free, 0)).
			WithHint("free some on the server, then resume session %s", session.ID)
	}
	return nil
}

func isDigest(s string) bool {
	_, err := ostree.ParseChecksum(s)
	return s == "" || err == nil
}

func checkPack(r *http.Request, name string) error {
	if !wire.IsPackName(name) {
		return wire.Errorf(wire.BadRequest, "pack name %.100q is not up to 64 of a-z, 0-9 and -", name)
	}
	return checkLength(r, "a pack", wire.MaxPack)
}

func (s *Server) checkObject(r *http.Request, session, object string) error {
	n, err := ostree.ParseName(object)
	if err != nil {
		return wire.Errorf(wire.BadRequest, "%v", err)
	}
	statuses, err := s.cfg.Journal.Statuses(session, []ostree.Name{n})
	if err != nil {
		return err
	}
	if statuses[0] == 0 {
		return wire.Errorf(wire.BadRequest, "object %s is not in the object set of session %s", n, session).
			WithHint("send its name to /api/v1/sessions/%s/objects first", session)
	}
	switch n.Type {
	case ostree.File:
		if limit := int64(s.cfg.Settings().Limits.MaxObjectSize); limit > 0 {
			return checkLength(r, "a content object", archiveBound(limit))
		}
		return nil
	case ostree.CommitMeta:
		return checkLength(r, "detached metadata", ostree.MaxCommitMeta)
	}
	return checkLength(r, "a metadata object", ostree.MaxMetadata)
}

// archiveBound is the most bytes that content of size bytes takes in archive
// form: deflate adds 5 bytes to each block that it stores, and the header with
// its xattrs comes on top.
func archiveBound(size int64) int64 { return size + size/1000 + 1<<20 }

func checkLength(r *http.Request, what string, limit int64) error {
	length, err := strconv.ParseInt(r.Header.Get("Upload-Length"), 10, 64)
	if err == nil && length > limit {
		return wire.Errorf(wire.TooLarge, "%s has at most %d bytes, this upload is to have %d", what, limit, length)
	}
	return nil // tusd says what is wrong with another length
}

// tusWriter holds back an error of tusd, which is plain text, so that it can
// be sent as a Problem.
type tusWriter struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

// Unwrap lets tusd set deadlines; without it its locks are never released.
func (w *tusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *tusWriter) WriteHeader(status int) {
	w.status = status
	if status < 400 {
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *tusWriter) Write(b []byte) (int, error) {
	if w.status >= 400 {
		return w.body.Write(b)
	}
	return w.ResponseWriter.Write(b)
}

// codes are those of tusd's errors that have no code of their own status.
var codes = map[int]string{
	http.StatusConflict:              "offset-mismatch",
	http.StatusNotFound:              wire.NotFound,
	http.StatusRequestEntityTooLarge: wire.TooLarge,
	http.StatusInsufficientStorage:   wire.InsufficientStorage,
	http.StatusLocked:                "locked",
	http.StatusPreconditionFailed:    "tus-version",
	http.StatusNotImplemented:        wire.BadRequest,
}

// problem gives an error of tusd ("ERR_CODE: words") the common form, with its
// status.
func (w *tusWriter) problem() *wire.Problem {
	text := strings.TrimSpace(w.body.String())
	code := codes[w.status]
	switch {
	case strings.HasPrefix(text, tusstore.ErrExists.ErrorCode):
		code = wire.Exists
	case code == "" && w.status < 500:
		code = wire.BadRequest
	case code == "":
		code = wire.Internal
	}
	p := wire.Errorf(code, "%s", text)
	p.Status = w.status
	return p
}

// debugLog passes tusd's log, about six lines a request, to ours at debug.
type debugLog struct{ h slog.Handler }

func (l debugLog) Enabled(ctx context.Context, _ expslog.Level) bool {
	return l.h.Enabled(ctx, slog.LevelDebug)
}

func (l debugLog) Handle(ctx context.Context, r expslog.Record) error {
	out := slog.NewRecord(r.Time, slog.LevelDebug, "tus: "+r.Message, 0)
	r.Attrs(func(a expslog.Attr) bool {
		out.AddAttrs(slog.Any(a.Key, a.Value.Any()))
		return true
	})
	return l.h.Handle(ctx, out)
}

func (l debugLog) WithAttrs(attrs []expslog.Attr) expslog.Handler {
	out := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		out[i] = slog.Any(a.Key, a.Value.Any())
	}
	return debugLog{l.h.WithAttrs(out)}
}

func (l debugLog) WithGroup(name string) expslog.Handler { return debugLog{l.h.WithGroup(name)} }
