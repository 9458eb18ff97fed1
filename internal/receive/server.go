// SPDX-License-Identifier: AGPL-3.0-or-later

// Package receive is the HTTP side of the server: routes, who may do what, and
// which status an error becomes. It stores nothing: uploads go to tusstore,
// sessions to the journal, and publish moves the refs.
//
// Every route but /healthz needs a bearer token. Every error is a wire.Problem.
package receive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tus/tusd/v2/pkg/handler"
	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/idtoken"
	"github.com/lirios/ostree-upload/internal/lastuse"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/publish"
	"github.com/lirios/ostree-upload/tusstore"
)

// Config is what a Server stands on. The caller opens and closes its parts.
type Config struct {
	Version   string
	Cores     int          // how many the server may use
	Repo      *ostree.Repo // the production repository, to read
	Settings  func() *config.Config
	Journal   *journal.Journal
	Store     *tusstore.Store
	Publisher *publish.Publisher
	LastUse   *lastuse.Record
	// Telling is held to read while a client is told what the repository has, until the
	// journal has noted it.
	Telling *sync.RWMutex
	Log     *slog.Logger
	// Metrics answers GET /metrics for a token that may read them; nil: there is
	// nothing at that path.
	Metrics http.Handler
	// Count counts a request of a route until it is answered; nil: nobody counts.
	Count func(route string) (answered func(status int))
}

// Server answers requests.
type Server struct {
	cfg     Config
	tus     http.Handler
	counts  handler.Metrics // tusd's
	conns   *conns
	allowed allowed
	opening sync.Mutex // held while a session is opened
	refused quotas     // of lines about requests that were refused
	events  quotas     // of lines about what became of sessions
	shares  *shares

	idTokens *idtoken.Verifier
}

// New makes a Server.
func New(cfg Config) (*Server, error) {
	if cfg.Count == nil {
		cfg.Count = func(string) func(int) { return func(int) {} }
	}
	s := &Server{
		cfg: cfg, conns: newConns(func(peer string) bool { return cfg.Settings().TrustedProxies.Trusts(peer) }),
		shares:   newShares(cfg.Cores),
		idTokens: idtoken.New(cfg.Log),
		refused:  quotas{lines: refusedLines, every: refusedEvery},
		events:   quotas{lines: eventLines, every: eventEvery},
	}
	var err error
	s.tus, err = s.newTus()
	return s, err
}

// TusCounts is what tusd counts.
func (s *Server) TusCounts() handler.Metrics { return s.counts }

// Connections counts those that are open.
func (s *Server) Connections() int { return s.conns.count() }

// Healthy is an error unless the repository and the journal can be used.
func (s *Server) Healthy() error { return errors.Join(s.repoThere(), s.cfg.Journal.Err()) }

// healthz is 200 while the server is healthy.
func (s *Server) healthz(w http.ResponseWriter, r *request) error {
	if err := s.Healthy(); err != nil {
		s.cfg.Log.Error("not healthy", "err", err)
		p := wire.Errorf(wire.Internal, "the repository or the journal cannot be used").WithHint("the server's log says why")
		p.Status = http.StatusServiceUnavailable
		writeProblem(w, r, p)
		return nil
	}
	fmt.Fprintln(w, "ok")
	return nil
}

// metrics is GET /metrics.
func (s *Server) metrics(w http.ResponseWriter, r *request) error {
	s.cfg.Metrics.ServeHTTP(w, r.Request)
	return nil
}

// repoThere tells whether the repository is still where it was: one that was
// moved away would look like one without refs.
func (s *Server) repoThere() error {
	_, err := os.Stat(filepath.Join(s.cfg.Repo.Path(), "refs", "heads"))
	if errors.Is(err, fs.ErrNotExist) {
		return wire.Errorf(wire.Internal, "the server's repository has no refs/heads").
			WithHint("on the server: put the repository back; if only empty folders are gone, a restart makes them")
	}
	return err
}

// currentRefs reads the refs of the repository.
func (s *Server) currentRefs() (map[string]ostree.Checksum, error) {
	if err := s.repoThere(); err != nil {
		return nil, err
	}
	return s.cfg.Repo.Refs()
}

// Serve answers requests on the listeners until ctx ends or one of them fails. Then
// it cuts uploads at a byte that is safe, gives other requests the grace period to
// end, and cuts those that do not.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	base, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	srv := s.http(base)
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		cut(handler.ErrServerShutdown)
		stopped <- s.shutDown(srv)
	})
	defer stop()
	defer s.idTokens.Close()
	var serving errgroup.Group
	for _, l := range listeners {
		serving.Go(func() error {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return errors.Join(err, srv.Close())
			}
			return nil
		})
	}
	if err := serving.Wait(); err != nil {
		return err
	}
	return <-stopped
}

// http2Bounds are of one connection of HTTP/2: requests at a time, and bytes of bodies
// that have come and that nobody has read. The default of 1 MiB makes uploads slow.
var http2Bounds = &http.HTTP2Config{
	MaxConcurrentStreams:          100,
	MaxReceiveBufferPerConnection: 4 << 20,
	MaxReceiveBufferPerStream:     4 << 20,
	WriteByteTimeout:              answerTime,
}

// http is the HTTP server, whose requests have base for a context.
func (s *Server) http(base context.Context) *http.Server {
	return &http.Server{
		Handler:           s.Handler(),
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnState:         s.conns.state,
		ConnContext:       s.conns.accept,
		ReadHeaderTimeout: headerTime,
		MaxHeaderBytes:    headerBytes,
		ReadTimeout:       bodyTime, // where no handler sets another
		IdleTimeout:       idleTime,
		ErrorLog:          s.errorLog(),
		HTTP2:             http2Bounds,
	}
}

// shutDown gives requests the grace period to end, and cuts those that do not.
func (s *Server) shutDown(srv *http.Server) error {
	grace := time.Duration(s.cfg.Settings().Grace)
	graceful, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	err := srv.Shutdown(graceful)
	if errors.Is(err, context.DeadlineExceeded) {
		s.cfg.Log.Warn("cutting requests that did not end in the grace period", "grace", grace)
		err = srv.Close()
	}
	return err
}
