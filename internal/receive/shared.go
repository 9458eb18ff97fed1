// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/tus/tusd/v2/pkg/handler"
	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/idtoken"
)

// Shared is what the repositories of a process have together: its connections, and what
// the requests of one token may have of the process, for whichever repository they are.
type Shared struct {
	settings func() *config.Config
	logger   *slog.Logger
	conns    *conns
	refused  quotas // of lines about requests that were refused
	events   quotas // of lines about what became of sessions
	shares   *shares
	idTokens *idtoken.Verifier

	previewing previewing // the files of previews that are being sent
}

// NewShared makes a Shared of a process that may use so many cores. Its Serve is called
// once.
func NewShared(cores int, settings func() *config.Config, log *slog.Logger) *Shared {
	return &Shared{
		settings: settings, logger: log,
		conns:    newConns(func(peer string) bool { return settings().TrustedProxies.Trusts(peer) }),
		refused:  quotas{lines: refusedLines, every: refusedEvery},
		events:   quotas{lines: eventLines, every: eventEvery},
		shares:   newShares(cores),
		idTokens: idtoken.New(log),
	}
}

// Connections counts those that are open.
func (s *Shared) Connections() int { return s.conns.count() }

// Door is where some of the requests come in, and what answers them.
type Door struct {
	Handler   http.Handler
	Listeners []net.Listener
}

// Serve answers requests at the doors until ctx ends or one of them fails. Then it cuts
// uploads at a byte that is safe, gives other requests the grace period to end, and cuts
// those that do not.
func (s *Shared) Serve(ctx context.Context, doors ...Door) error {
	defer s.idTokens.Close()
	serving, ctx := errgroup.WithContext(ctx)
	for _, d := range doors {
		serving.Go(func() error { return s.serve(ctx, d) })
	}
	return serving.Wait()
}

func (s *Shared) serve(ctx context.Context, d Door) error {
	base, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	srv := s.http(base, d.Handler)
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		cut(handler.ErrServerShutdown)
		stopped <- s.shutDown(srv)
	})
	defer stop()
	var serving errgroup.Group
	for _, l := range d.Listeners {
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
func (s *Shared) http(base context.Context, h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
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
func (s *Shared) shutDown(srv *http.Server) error {
	grace := time.Duration(s.settings().Grace)
	graceful, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	err := srv.Shutdown(graceful)
	if errors.Is(err, context.DeadlineExceeded) {
		s.logger.Warn("cutting requests that did not end in the grace period", "grace", grace)
		err = srv.Close()
	}
	return err
}
