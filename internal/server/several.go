// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/metrics"
	"github.com/lirios/ostree-upload/internal/receive"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/tusstore"
)

// several are the repositories that one process serves, each in its place. They share
// what clients come in by, and what a token may have of the process. What fails of one
// ends that one, which is then opened anew; the others go on.
type several struct {
	opt     Options // Repo and State are empty
	metrics *metrics.Metrics
	places  []*place
	tried   chan trial // the outcome of each place's first opening
}

// A trial is how the first opening of a place went.
type trial struct {
	place int
	err   error
}

func serveSeveral(ctx context.Context, opt Options, m manager, hup <-chan os.Signal, started func()) error {
	s := newSeveral(opt)
	e, err := s.enter(ctx)
	if err != nil {
		return err
	}
	stopReload := reloadOn(hup, func() { m.reload(func() { s.reload(e.pair) }) })
	return untilStopped(ctx, s.opt, m, func(ctx context.Context) error {
		err := s.run(ctx, e, func() (stop func()) {
			started()
			status := "receiving at " + e.String()
			s.opt.Log.Info("receiving", append(e.keys(), "repositories", len(s.places), "version", s.opt.Version)...)
			m.tell("READY=1\nSTATUS=" + status)
			return m.watch(status, s.healthy)
		})
		stopReload()
		return err
	})
}

func newSeveral(opt Options) *several {
	opt.shared = receive.NewShared(opt.cores(), opt.Settings, opt.Log)
	opt.pool = tusstore.NewPool(opt.cores())
	s := &several{opt: opt, metrics: metrics.NewProcess(opt.Version)}
	for _, r := range opt.Settings().Served() {
		s.places = append(s.places, newPlace(opt, r))
	}
	s.tried = make(chan trial, len(s.places))
	return s
}

// enter does what start does: it takes the locks of the repositories that are there,
// listens, and becomes their owner.
func (s *several) enter(ctx context.Context) (e *entrance, err error) {
	if s.opt.pair, err = loadCertificate(s.opt.TLS, s.opt.Log); err != nil {
		return nil, err
	}
	lead, repos, err := s.owned()
	if err != nil {
		return nil, err
	}
	takeUmask(repos...)
	lead.Beside = repos
	if err := s.lockEarly(ctx); err != nil {
		return nil, err
	}
	if e, err = openEntrance(lead, s.opt.pair); err == nil {
		err = errors.Join(e.openMetrics(s.opt.MetricsAddress, lead.Repo), e.openPage(s.opt.PageAddress, lead.Repo))
	}
	if err == nil {
		err = becomeOwner(lead)
	}
	if err != nil {
		return nil, errors.Join(err, s.unlock(), e.close())
	}
	if s.opt.pair != nil {
		s.opt.pair.warnIfUnreadable()
	}
	return e, nil
}

// owned is the first of the repositories that this user, or root in their place, can
// serve, and the paths of all of them. For root that has to be those of one user, whom it
// becomes. What is not there, or another's, is left to place.open.
func (s *several) owned() (lead Options, repos []string, err error) {
	lead = s.places[0].opt
	me, owner := os.Geteuid(), -1
	for _, p := range s.places {
		uid, _, err := ownerOf(p.opt.Repo)
		if err != nil || me != 0 && uid != me {
			continue
		}
		if owner >= 0 && uid != owner {
			return lead, nil, hint.Add(fmt.Errorf("the repositories %s and %s belong to users %d and %d, and one process cannot serve both", lead.Name, p.opt.Name, owner, uid),
				"give them to one user, or run a server for each of these users")
		}
		if owner < 0 {
			lead, owner = p.opt, uid
		}
		repos = append(repos, p.opt.Repo)
	}
	return lead, repos, nil
}

// lockEarly takes the locks of the repositories that are there. One that another server
// has is tried again later, unless it has all.
func (s *several) lockEarly(ctx context.Context) error {
	var others []error
	for _, p := range s.places {
		lock, err := lockEarly(ctx, p.opt)
		p.opt.lock = lock
		if errors.Is(err, durable.ErrLocked) {
			p.opt.WaitLock = 0
			others = append(others, err)
		} else if err != nil {
			return errors.Join(err, s.unlock())
		}
	}
	if len(others) == len(s.places) {
		return errors.Join(others...)
	}
	return nil
}

func (s *several) unlock() (err error) {
	for _, p := range s.places {
		err = errors.Join(err, closeLock(p.opt.lock))
	}
	return err
}

// run serves until ctx ends: then requests end first, and then the repositories. ready is
// called when it has begun to, and the stop that it returns in the end.
func (s *several) run(ctx context.Context, e *entrance, ready func() (stop func())) error {
	front := s.front()
	doors := doors(front, e.listeners, newPage(front, s.opt.Settings, s.places[0].opt.State, s.opt.Log), e.page)
	g, ctx := errgroup.WithContext(ctx)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error {
		defer stop()
		return s.opt.shared.Serve(ctx, doors...)
	})
	for i, p := range s.places {
		var first sync.Once
		g.Go(func() error {
			return p.keep(serving, func(err error) { first.Do(func() { s.tried <- trial{i, err} }) })
		})
	}
	if e.metrics != nil {
		g.Go(func() error { return serveMetrics(ctx, e.metrics, s.metrics.HandlerWith(s.metricsOpen), s.opt.Log) })
	}
	g.Go(func() error { return s.announce(ctx, ready) })
	return g.Wait()
}

// openPatience is how long the server waits for its repositories to be opened before it
// says that it has started. It may take much longer to verify what an unclean stop left.
const openPatience = 5 * time.Second

// announce says when the server has started. The error is that no repository can be
// opened.
func (s *several) announce(ctx context.Context, ready func() (stop func())) error {
	patience := time.After(openPatience)
	failed := make([]error, len(s.places)) // in the order of the places, whichever was first
	open := len(s.places)
	for waiting := len(s.places); waiting > 0; waiting-- {
		select {
		case t := <-s.tried:
			if failed[t.place] = t.err; t.err != nil {
				open--
			}
		case <-patience:
			waiting = 1
		case <-ctx.Done():
			return nil
		}
	}
	if open == 0 {
		return errors.Join(failed...)
	}
	defer ready()()
	<-ctx.Done()
	return nil
}

// front answers what is asked of all repositories, and hands on what is asked of one.
func (s *several) front() *receive.Front {
	s.metrics.WatchProcess(s.sources())
	cfg := receive.Config{Settings: s.opt.Settings, Shared: s.opt.shared, Log: s.opt.Log, Count: s.metrics.Request, Used: s.used}
	if s.opt.MetricsAddress == "" {
		cfg.Metrics = s.metrics.HandlerWith(s.metricsOpen)
	}
	byName := map[string]http.Handler{}
	for _, p := range s.places {
		p.down = receive.DownHandler(receive.Config{Settings: p.opt.Settings, Shared: s.opt.shared, Log: p.opt.Log, Count: s.metrics.Request, Used: s.used}, firstPause)
		byName[p.opt.Name] = p
	}
	return receive.NewFront(receive.FrontConfig{Config: cfg, States: s.states, Repository: func(name string) http.Handler { return byName[name] }})
}

func (s *several) sources() metrics.ProcessSources {
	sources := processSources(s.opt)
	sources.Down = func() (names []string) {
		for _, p := range s.places {
			if p.server() == nil {
				names = append(names, p.opt.Name)
			}
		}
		return names
	}
	return sources
}

// open lists the repositories that are open.
func (s *several) open() (list []*Server) {
	for _, p := range s.places {
		if one := p.server(); one != nil {
			list = append(list, one)
		}
	}
	return list
}

func (s *several) metricsOpen() (list []*metrics.Metrics) {
	for _, one := range s.open() {
		list = append(list, one.metrics)
	}
	return list
}

// used notes the use of a token for no repository alone.
func (s *several) used(token string) {
	for _, one := range s.open() {
		one.LastUse.Use(token)
	}
}

func (s *several) states() map[string]string {
	all := map[string]string{}
	for _, p := range s.places {
		all[p.opt.Name] = p.now()
	}
	return all
}

// healthy is an error if no repository can be used.
func (s *several) healthy() error {
	states := s.states()
	for _, state := range states {
		if state == wire.RepositoryOK {
			return nil
		}
	}
	return fmt.Errorf("no repository of %v can be used", slices.Sorted(maps.Keys(states)))
}

// reload reads the files again, and tries at once to open what cannot be used.
func (s *several) reload(pair *certificate) {
	reload(s.opt, pair)
	for _, one := range s.open() {
		one.reloaded()
	}
	for _, p := range s.places {
		select {
		case p.again <- struct{}{}:
		default:
		}
	}
}

// noteChanges is now, and says in the log when other repositories are configured than
// were when it began.
func noteChanges(now func() *config.Config, log *slog.Logger) func() *config.Config {
	var mu sync.Mutex
	last := now()
	served := foldersOf(last)
	return func() *config.Config {
		c := now()
		mu.Lock()
		defer mu.Unlock()
		if c == last {
			return c
		}
		last = c
		if configured := foldersOf(c); !maps.Equal(configured, served) {
			log.Warn("other repositories are configured than are served, which takes a restart",
				"configured", placesOf(configured), "served", placesOf(served))
		}
		return c
	}
}

// foldersOf are the places of the repositories of a configuration, by name.
func foldersOf(c *config.Config) map[string][3]string {
	all := map[string][3]string{}
	for _, r := range c.Served() {
		all[r.Name] = [3]string{r.Repo, r.StateFolder(), fmt.Sprint(r.S3)}
	}
	return all
}

// placesOf tells where repositories are, in the order of their names.
func placesOf(folders map[string][3]string) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(folders)) {
		at := folders[name]
		place := at[0] + ", state " + at[1]
		if name != "" {
			place = name + ": " + place
		}
		if at[2] != fmt.Sprint(config.S3{}) {
			place += ", s3 " + at[2]
		}
		all = append(all, place)
	}
	return all
}
