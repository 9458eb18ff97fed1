// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tus/tusd/v2/pkg/handler"
	expslog "golang.org/x/exp/slog"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/tusstore"
)

// tusVersion is the only one of the protocol.
const tusVersion = "1.0.0"

// newTus makes the tus server over the store. Who may do what was decided
// before a request gets there.
func (s *Server) newTus() (http.Handler, error) {
	cfg := s.cfg
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
		PreFinishResponseCallback: func(hook handler.HookEvent) (handler.HTTPResponse, error) {
			if r, _ := hook.Context.Value(requestKey{}).(*request); r != nil {
				_, name := uploadName(hook.Upload.MetaData)
				s.event(r, "upload received", "upload", name, "bytes", hook.Upload.Size, "took", time.Since(r.began))
			}
			return handler.HTTPResponse{}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	s.counts = h.Metrics
	return http.StripPrefix(uploadsPath, h), nil
}

// requestKey is under what tusd's hooks find the request.
type requestKey struct{}

// uploadName is where an upload's metadata says that it belongs.
func uploadName(meta map[string]string) (session, name string) {
	return meta["session"], meta["object"] + meta["pack"]
}

// location is where an upload is, relative to where it was created: this server
// does not know by which scheme, host and path a client reaches it.
func location(id string) string { return ".." + uploadsPath + id }

// forwardToTus lets tusd answer, and gives its errors the form of all others.
func (s *Server) forwardToTus(w http.ResponseWriter, r *request) error {
	tw := &tusWriter{ResponseWriter: w}
	s.tus.ServeHTTP(tw, r.WithContext(context.WithValue(r.Context(), requestKey{}, r)))
	if tw.status < 400 {
		return nil
	}
	if r.session != nil && r.Method != http.MethodHead && r.Method != http.MethodDelete {
		s.interrupted.add(r.session.ID)
	}
	return tw.problem()
}

// answerExisting answers the creation of an upload that exists, with all that HEAD
// would tell. If it is the same creation again and nothing has arrived, it is 201,
// as the first time: that answer was lost, most likely.
func (s *Server) answerExisting(w http.ResponseWriter, r *request) (answered bool, err error) {
	if r.Header.Get("Tus-Resumable") != tusVersion {
		return false, nil // tusd says so
	}
	meta := handler.ParseMetadataHeader(r.Header.Get("Upload-Metadata"))
	session, name := uploadName(meta)
	id := tusstore.ID(session, name)
	u, err := s.cfg.Store.GetUpload(r.Context(), id)
	if errors.Is(err, handler.ErrNotFound) {
		return false, nil
	}
	var there handler.FileInfo
	if err == nil {
		there, err = u.GetInfo(r.Context())
	}
	if err != nil {
		return false, err
	}
	h := w.Header()
	h.Set("Tus-Resumable", tusVersion)
	h.Set("Location", location(id))
	h.Set("Upload-Offset", strconv.FormatInt(there.Offset, 10))
	h.Set("Upload-Length", strconv.FormatInt(there.Size, 10))
	h.Set("Upload-Metadata", handler.SerializeMetadataHeader(there.MetaData))
	if there.Offset > 0 || r.Header.Get("Upload-Length") != h.Get("Upload-Length") || !maps.Equal(meta, there.MetaData) {
		p := wire.Errorf(wire.Exists, "upload %s exists, with %d of %d bytes", name, there.Offset, there.Size)
		return true, p
	}
	h.Set("Cache-Control", "no-store")
	leaveBody(w, r)
	w.WriteHeader(http.StatusCreated)
	return true, nil
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
	// tusd gives the length of the upload, for which the answer to a POST that stands
	// for HEAD would keep the client waiting.
	w.Header().Del("Content-Length")
	if _, id, made := strings.Cut(w.Header().Get("Location"), uploadsPath); made {
		w.Header().Set("Location", location(id))
	}
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
}

// ofClients are the errors of tusd that a client or the link to it causes, and that it
// calls faults of the server: the log would tell them as such, and wake somebody.
var ofClients = map[string]int{
	handler.ErrNotImplemented.ErrorCode:  http.StatusBadRequest,
	handler.ErrConnectionReset.ErrorCode: http.StatusBadRequest,
	handler.ErrReadTimeout.ErrorCode:     http.StatusRequestTimeout,
	handler.ErrLockTimeout.ErrorCode:     http.StatusLocked,
}

// problem gives an error of tusd ("ERR_CODE: words") the common form, with its
// status.
func (w *tusWriter) problem() *wire.Problem {
	text := strings.TrimSpace(w.body.String())
	name, _, _ := strings.Cut(text, ":")
	w.status = cmp.Or(ofClients[name], w.status)
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
