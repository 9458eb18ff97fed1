// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/http"
	"slices"
	"time"

	"golang.org/x/net/netutil"

	"github.com/lirios/ostree-upload/internal/metrics"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/tusstore"
)

// What the address for metrics alone bears: whoever scrapes has one connection.
const (
	metricsConns = 16
	metricsTime  = 30 * time.Second // for a request and its answer
)

// serveMetrics answers GET /metrics on a listener of its own, without a token, until
// ctx ends.
func serveMetrics(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", h)
	srv := &http.Server{
		Handler: mux, ReadTimeout: metricsTime, WriteTimeout: metricsTime, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })() // a scrape that is cut comes again
	if err := srv.Serve(netutil.LimitListener(l, metricsConns)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// watch has the metrics show what the parts tell.
func (s *Server) watch() {
	sources := metrics.Sources{
		Healthy: func() bool { return s.API.Healthy() == nil },
		Sessions: func() map[string]int {
			all := map[string]int{}
			for state, n := range s.Journal.States() {
				all[string(state)] = n
			}
			return all
		},
		Store: s.storeNow, Disks: s.disks, Works: s.worksDue, Tokens: s.tokensNow,
		MinFree: func() float64 { return float64(s.opt.Settings().Limits.MinFreeSpace) },
	}
	s.metrics.Watch(sources)
	if s.opt.Name == "" {
		s.metrics.WatchProcess(processSources(s.opt))
	}
	s.metrics.Tus(s.API.TusCounts())
}

// newMetrics makes those of a repository, and of its process if that serves no other.
func newMetrics(opt Options) *metrics.Metrics {
	outcomes := []string{wire.Published, wire.Internal, wire.InsufficientStorage}
	if opt.Name != "" {
		return metrics.NewRepository(opt.Name, outcomes...)
	}
	return metrics.New(opt.Version, outcomes...)
}

func processSources(opt Options) metrics.ProcessSources {
	sources := metrics.ProcessSources{Connections: opt.shared.Connections}
	if opt.pair != nil {
		sources.Certificate = opt.pair.end
	}
	return sources
}

func (s *Server) seePruned(r *wire.Pruned, err error) {
	if r == nil {
		r = &wire.Pruned{}
	}
	s.metrics.Pruned(err == nil, int64(r.Commits+r.Objects), r.Bytes, time.Now())
}

func (s *Server) storeNow() metrics.Store {
	st := s.Store.Stats()
	return metrics.Store{
		Received: float64(st.Received), Verified: float64(st.Verified), Rejected: float64(st.Rejected),
		Uploads: float64(st.Uploads), Unsent: float64(st.Unsent),
		Waiting: float64(st.Waiting), Working: float64(st.Working),
	}
}

// disks leaves out what cannot be asked: the server's log says why, when a push meets
// it. A repository in a bucket has none.
func (s *Server) disks() (all []metrics.Disk) {
	folders := map[string]string{"state": s.opt.State}
	if s.opt.Bucket == nil {
		folders["repository"] = s.opt.Repo
	}
	for folder, path := range folders {
		bytes, inodes, err := tusstore.Free(path)
		if err != nil {
			s.opt.Log.Debug("no metrics of a disk", "err", err)
			continue
		}
		d := metrics.Disk{Folder: folder, Free: float64(bytes), Inodes: -1}
		if inodes != math.MaxInt64 {
			d.Inodes = float64(inodes)
		}
		all = append(all, d)
	}
	return all
}

func (s *Server) worksDue() (all []metrics.Work) {
	due, err := s.Journal.Works()
	if err != nil { // then it is not healthy, which is shown
		due = []journal.Work{}
	}
	for _, w := range due {
		all = append(all, metrics.Work{Name: w.Name, Since: w.Since, Tries: w.Tries})
	}
	return all
}

// tokensNow lists those of the configuration, and the names that it gives ID tokens:
// names of the past would never go away.
func (s *Server) tokensNow() (all []metrics.Token) {
	used, settings := s.LastUse.All(), s.opt.Settings()
	for _, t := range settings.Tokens {
		all = append(all, metrics.Token{Name: t.Name, LastUse: used[t.Name], Expires: t.Expires})
	}
	for _, t := range settings.OIDC {
		if !slices.ContainsFunc(all, func(m metrics.Token) bool { return m.Name == t.Name }) { // several may have one name
			all = append(all, metrics.Token{Name: t.Name, LastUse: used[t.Name]})
		}
	}
	return all
}
