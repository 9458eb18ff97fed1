// SPDX-License-Identifier: AGPL-3.0-or-later

// Package receive is the HTTP side of the server: routes, who may do what, and
// which status an error becomes. It stores nothing: uploads go to tusstore,
// sessions to the journal, and publish moves the refs.
//
// Every route but /healthz needs a bearer token. Every error is a wire.Problem.
package receive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/tus/tusd/v2/pkg/handler"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/publish"
	"github.com/lirios/ostree-upload/tusstore"
)

// Config is what a Server stands on. The caller opens and closes its parts.
type Config struct {
	Version   string
	Repo      *ostree.Repo // the production repository, to read
	Settings  func() *config.Config
	Journal   *journal.Journal
	Store     *tusstore.Store
	Publisher *publish.Publisher
	Log       *slog.Logger
}

// Server answers requests.
type Server struct {
	cfg Config
	tus http.Handler
}

// New makes a Server.
func New(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg}
	var err error
	s.tus, err = newTus(cfg)
	return s, err
}

// uploadsPath is where tus lives; wire.Info names it.
const uploadsPath = "/files/"

// Handler routes requests.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handlerFunc{
		"GET /api/v1/info":                    s.info,
		"GET /api/v1/refs":                    s.refs,
		"GET /api/v1/commitmeta/{commit}":     s.commitMeta,
		"POST /api/v1/sessions":               s.openSession,
		"GET /api/v1/sessions":                s.listSessions,
		"GET /api/v1/sessions/{id}":           s.getSession,
		"DELETE /api/v1/sessions/{id}":        s.abortSession,
		"POST /api/v1/sessions/{id}/objects":  s.negotiate,
		"POST /api/v1/sessions/{id}/salvage":  s.salvage,
		"POST /api/v1/sessions/{id}/finalize": s.finalize,
	} {
		mux.Handle(pattern, s.route(h))
	}
	mux.HandleFunc(uploadsPath, s.files)
	other := func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, notRouted(mux, w, r)) }
	mux.HandleFunc("/files", other) // else a redirect
	mux.HandleFunc("/", other)
	return s.authenticate(mux)
}

// handlerFunc is a route: what it returns is sent as a Problem.
type handlerFunc func(w http.ResponseWriter, r *http.Request) error

func (s *Server) route(h handlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := readBody(w, r)
		if err == nil {
			err = h(w, r)
		}
		if err != nil {
			s.fail(w, r, err)
		}
	})
}

// readBody reads the whole body, which is small, within bodyTime: a client that
// sends it slowly must not hold up a stop. tusd leaves a write deadline on the
// connection, which is lifted.
func readBody(w http.ResponseWriter, r *http.Request) error {
	c := http.NewResponseController(w)
	if err := errors.Join(c.SetReadDeadline(time.Now().Add(bodyTime)), c.SetWriteDeadline(time.Time{})); err != nil {
		return err
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, wire.MaxBody))
	var tooLarge *http.MaxBytesError
	if err != nil && !errors.As(err, &tooLarge) {
		return wire.Errorf(wire.BadRequest, "the request's body did not come whole: %v", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(b))
	return errors.Join(err, c.SetReadDeadline(time.Time{}))
}

// bodyTime is how long a request's body may take to arrive, uploads apart.
const bodyTime = time.Minute

// methods are those that a path may be asked with.
var methods = []string{"GET", "POST", "DELETE"}

// notRouted tells a wrong method from a wrong path.
func notRouted(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) error {
	var allowed []string
	for _, m := range methods {
		other := r.Clone(r.Context())
		other.Method = m
		if _, pattern := mux.Handler(other); strings.HasPrefix(pattern, m+" ") {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) > 0 {
		return notAllowed(w, r, allowed...)
	}
	return wire.Errorf(wire.NotFound, "there is nothing at %s", r.URL.Path)
}

type tokenKey struct{}

func tokenOf(r *http.Request) *token.Token { return r.Context().Value(tokenKey{}).(*token.Token) }

// authenticate comes before everything: a request without a token learns
// nothing, not even which paths there are.
func (s *Server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			s.healthz(w, r)
			return
		}
		scheme, bearer, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			s.unauthorized(w, r, errors.New("no bearer token was sent"))
			return
		}
		token, err := token.Find(s.cfg.Settings().Tokens, strings.TrimSpace(bearer), time.Now())
		if err != nil {
			s.unauthorized(w, r, err)
			return
		}
		// Here, since ServeMux answers a path with .. or // by a redirect.
		if clean := path.Clean(r.URL.Path); clean != strings.TrimSuffix(r.URL.Path, "/") && r.URL.Path != "/" {
			s.fail(w, r, wire.Errorf(wire.NotFound, "there is nothing at %s", r.URL.Path))
			return
		}
		// tusd would take it for the method, after these checks.
		r.Header.Del("X-HTTP-Method-Override")
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tokenKey{}, token)))
	})
}

func (s *Server) unauthorized(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="ostree-upload"`)
	s.fail(w, r, wire.Errorf(wire.Unauthorized, "%v", err).
		WithHint("make a token on the server: ostree-upload gentoken"))
}

// healthz is 200 while the repository and the journal can be used.
func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	err := errors.Join(s.repoThere(), s.cfg.Journal.Err())
	if err != nil {
		s.cfg.Log.Error("not healthy", "err", err)
		p := wire.Errorf(wire.Internal, "the repository or the journal cannot be used").WithHint("the server's log says why")
		p.Status = http.StatusServiceUnavailable
		writeProblem(w, r, p)
		return
	}
	fmt.Fprintln(w, "ok")
}

// repoThere tells whether the repository is still where it was: one that was
// moved away would look like one without refs.
func (s *Server) repoThere() error {
	_, err := os.Stat(filepath.Join(s.cfg.Repo.Path(), "refs", "heads"))
	return err
}

// currentRefs reads the refs of the repository.
func (s *Server) currentRefs() (map[string]ostree.Checksum, error) {
	if err := s.repoThere(); err != nil {
		return nil, err
	}
	return s.cfg.Repo.Refs()
}

// Serve answers requests on the listener until ctx ends. Then it cuts uploads
// at a byte that is safe, gives other requests the grace period to end, and
// cuts those that do not.
func (s *Server) Serve(ctx context.Context, l net.Listener, grace time.Duration) error {
	base, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	srv := &http.Server{
		Handler:           s.Handler(),
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
		// The default window of 1 MiB makes uploads over HTTP/2 slow.
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerConnection: 16 << 20, MaxReceiveBufferPerStream: 16 << 20},
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		cut(handler.ErrServerShutdown)
		graceful, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		err := srv.Shutdown(graceful)
		if errors.Is(err, context.DeadlineExceeded) {
			s.cfg.Log.Warn("cutting requests that did not end in the grace period", "grace", grace)
			err = srv.Close()
		}
		stopped <- err
	})
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}
