// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/config"
)

// Serve takes the repository's lock and listens, becomes the owner of the
// repository, and serves it until ctx ends; or all repositories, if the configuration
// names several.
func Serve(ctx context.Context, opt Options) error {
	opt.workers = spareThreads()
	hup := make(chan os.Signal, 1) // caught from the start, as it would kill
	signal.Notify(hup, unix.SIGHUP)
	defer signal.Stop(hup)
	m := manager{opt.Log}
	started := m.busy("STATUS=starting")
	defer started()
	served := opt.Settings()
	opt.Settings = noteChanges(opt.Settings, opt.Log)
	var err error
	if served.Repositories != nil {
		err = serveSeveral(ctx, opt, m, hup, started)
	} else {
		opt.Settings = config.NewView(opt.Settings, served.Repository).Current
		err = serveOne(ctx, opt, m, hup, started)
	}
	if err != nil && err == ctx.Err() {
		return nil // a stop, while another server had the repository
	}
	return err
}

func serveOne(ctx context.Context, opt Options, m manager, hup <-chan os.Signal, started func()) error {
	takeUmask(opt.Repo)
	s, e, err := start(ctx, opt)
	if err != nil {
		return err
	}
	started()
	status := "receiving at " + e.String()
	opt.Log.Info("receiving", append(e.keys(), "repo", opt.where(), "mode", s.repo.Mode(), "version", opt.Version)...)
	m.tell("READY=1\nSTATUS=" + status)
	stopWatch := m.watch(status, s.API.Healthy)
	stopReload := reloadOn(hup, func() {
		m.reload(func() {
			reload(opt, e.pair)
			s.reloaded()
		})
	})
	return untilStopped(ctx, opt, m, func(ctx context.Context) error {
		err := s.Run(ctx, e.listeners...)
		stopReload()
		stopWatch()
		return errors.Join(err, s.Close(err == nil))
	})
}

// start does what needs root's privileges, which are those for a port below 1024, a
// private key and another user's socket, then becomes the owner and opens all parts.
func start(ctx context.Context, opt Options) (s *Server, e *entrance, err error) {
	pair, err := loadCertificate(opt.TLS, opt.Log)
	if err != nil {
		return nil, nil, err
	}
	// Before it listens: the server that is on its way out may have the port, too.
	if opt.lock, err = lockEarly(ctx, opt); err != nil {
		return nil, nil, err
	}
	opt.pair = pair
	if e, err = openEntrance(opt, pair); err == nil {
		err = errors.Join(e.openMetrics(opt.MetricsAddress, opt.Repo), e.openPage(opt.PageAddress, opt.Repo))
	}
	if err == nil {
		err = settle(ctx, opt, pair)
	}
	if err != nil {
		return nil, nil, errors.Join(err, closeLock(opt.lock), e.close())
	}
	if s, err = Open(ctx, opt); err != nil {
		return nil, nil, errors.Join(err, e.close())
	}
	s.metricsAt, s.pageAt = e.metrics, e.page
	return s, e, nil
}

// settle becomes the owner of the repository, which it makes if it is to.
func settle(ctx context.Context, opt Options, pair *certificate) error {
	if err := becomeOwner(opt); err != nil {
		return err
	}
	if pair != nil {
		pair.warnIfUnreadable()
	}
	if opt.Init {
		return makeRepo(ctx, opt)
	}
	return nil
}

// untilStopped runs what serves until ctx ends, and then closes.
func untilStopped(ctx context.Context, opt Options, m manager, serve func(context.Context) error) error {
	asked := make(chan stop, 1)
	defer context.AfterFunc(ctx, func() {
		opt.Log.Info("stopping", "grace", time.Duration(opt.Settings().Grace))
		asked <- stop{time.Now(), m.busy("STOPPING=1\nSTATUS=stopping")}
	})()
	err := serve(ctx)
	if ctx.Err() == nil {
		return err
	}
	stopped := <-asked
	stopped.done()
	if err == nil {
		opt.Log.Info("stopped", "took", time.Since(stopped.at))
	}
	return err
}

// A stop that was asked for.
type stop struct {
	at   time.Time
	done func() // tells systemd no longer that it takes time
}

// reloadOn calls reload at each signal, until the returned stop.
func reloadOn(hup <-chan os.Signal, reload func()) (stop func()) {
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-end:
				return
			case <-hup:
				reload()
			}
		}
	}()
	return func() {
		close(end)
		<-done
	}
}

// reload reads the configuration and the certificate again.
func reload(opt Options, pair *certificate) {
	opt.Log.Info("SIGHUP: reading configuration and certificate again")
	if opt.Reload != nil {
		opt.Reload()
	}
	if pair != nil {
		pair.reload()
	}
}

// reloaded does at once what waits for a later time, as the configuration was read again.
func (s *Server) reloaded() {
	s.warnOfWorks()
	s.Publisher.RetryWorks()
}

// spareThreads lets Go run more threads than there are cores, which it returns.
// Else, while each core verifies, a request waits up to 10 ms for each of its steps
// until Go's scheduler looks for it; the kernel's looks at once.
func spareThreads() (cores int) {
	cores = runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(cores + 2)
	return cores
}
