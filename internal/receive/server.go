// SPDX-License-Identifier: AGPL-3.0-or-later

// Package receive is the HTTP side of the server: routes, who may do what, and
// which status an error becomes. It stores nothing: uploads go to tusstore,
// sessions to the journal, and publish moves the refs.
//
// Every route but /healthz needs a bearer token. Every error is a wire.Problem.
package receive

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tus/tusd/v2/pkg/handler"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/publish"
	"github.com/lirios/ostree-upload/tusstore"
)

// Config is what a Server stands on. The caller opens and closes its parts.
type Config struct {
	Version   string
	Shared    *Shared      // with other repositories of the process
	Repo      *ostree.Repo // the production repository, to read
	Settings  func() *config.Config
	Journal   *journal.Journal
	Store     *tusstore.Store
	Publisher *publish.Publisher
	Used      func(token string) // notes that a token is used now
	// Telling is held to read while a client is told what the repository has, until the
	// journal has noted it.
	Telling *sync.RWMutex
	Log     *slog.Logger
	// Metrics answers GET /metrics for a token that may read them; nil: there is
	// nothing at that path.
	Metrics  http.Handler
	LastUses func() map[string]time.Time // of tokens, by name
	// Status tells how the server stands, but for what this package knows itself.
	Status func() wire.Status
	// Count counts a request of a route until it is answered; nil: nobody counts.
	Count func(route string) (answered func(status int))
}

// Server answers requests.
type Server struct {
	*Shared
	cfg     Config
	tus     http.Handler
	counts  handler.Metrics // tusd's
	allowed allowed
	opening sync.Mutex // held while a session is opened

	interrupted interrupted
}

// New makes a Server.
func New(cfg Config) (*Server, error) {
	s := plain(cfg)
	var err error
	s.tus, err = s.newTus()
	return s, err
}

// plain makes a Server that only knows who asks.
func plain(cfg Config) *Server {
	if cfg.Count == nil {
		cfg.Count = func(string) func(int) { return func(int) {} }
	}
	return &Server{Shared: cfg.Shared, cfg: cfg}
}

// TusCounts is what tusd counts.
func (s *Server) TusCounts() handler.Metrics { return s.counts }

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
