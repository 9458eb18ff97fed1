// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/tus/tusd/v2/pkg/handler"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/wire"
)

// A repository that cannot be used is tried again after the first of these pauses, each
// time after one that is twice as long, up to the last: a disk may be mounted later, and
// to open one after an unclean stop costs the reading of all that is staged.
const firstPause, longestPause = 10 * time.Second, 2 * time.Minute

// lookEvery is how often the server looks whether a repository can still be used.
const lookEvery = 5 * time.Second

// place is where one of several repositories is served, as often as it is opened.
type place struct {
	opt   Options
	down  http.Handler // answers while it is not open
	again chan struct{}

	mu    sync.Mutex
	gate  *gate // nil while it is not open
	state string
}

// gate lets requests into a repository that is open.
type gate struct {
	server  *Server
	handler http.Handler
	ctx     context.Context // ends when it closes
	cut     context.CancelCauseFunc
	inside  sync.WaitGroup
}

func newPlace(opt Options, r config.Repository) *place {
	opt.At(&r)
	opt.Settings, opt.Log = config.NewView(opt.Settings, r).Current, opt.Log.With("repository", r.Name)
	return &place{opt: opt, again: make(chan struct{}, 1), state: wire.RepositoryOpening}
}

// keep opens the repository and serves it until ctx ends, and opens it anew whenever that
// fails. tried gets the outcome of each opening.
func (p *place) keep(ctx context.Context, tried func(error)) error {
	told := ""
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		s, err := p.open(ctx)
		if err != nil {
			tried(named(p.opt.Name, err))
		}
		if opened := time.Now(); err == nil {
			p.opt.Init = false // one that is gone later is not to be replaced by an empty one
			p.opt.Log.Info("repository opened", "repo", p.opt.where(), "mode", s.repo.Mode())
			err = s.run(ctx, func(ctx context.Context) error { return p.serve(ctx, s, tried) })
			err = errors.Join(err, s.Close(err == nil))
			if ctx.Err() != nil {
				return named(p.opt.Name, err)
			}
			if time.Since(opened) > longestPause {
				pause = firstPause
			}
		}
		if ctx.Err() != nil {
			return nil // a stop while it was being opened
		}
		p.set(nil, wire.RepositoryFailed)
		if err != nil && err.Error() != told {
			told = err.Error()
			p.opt.Log.Error("the repository cannot be used; it will be tried again, and at once by SIGHUP", "repo", p.opt.where(), "err", err, "hint", hint.Of(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.again:
		case <-time.After(pause):
		}
	}
}

func named(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("repository %s: %w", name, err)
}

// open opens the repository, which has to belong to the user who serves all. A request to
// try again counts only if it comes later.
func (p *place) open(ctx context.Context) (*Server, error) {
	select {
	case <-p.again:
	default:
	}
	opt := p.opt
	p.opt.lock = nil // it is closed with what is opened now
	uid, _, err := ownerOf(opt.owned())
	switch {
	case err == nil && uid != os.Geteuid():
		err = notOwner(opt, uid)
	case opt.Init:
		err = makeRepo(ctx, opt)
	default:
		err = nil // Open says better what is not there
	}
	if err != nil {
		return nil, errors.Join(err, closeLock(opt.lock))
	}
	return Open(ctx, opt)
}

// serve lets requests in until ctx ends or the repository cannot be used any more, cuts
// those that are inside, and waits for their end.
func (p *place) serve(ctx context.Context, s *Server, opened func(error)) (err error) {
	g := &gate{server: s, handler: s.API.Handler()}
	g.ctx, g.cut = context.WithCancelCause(context.WithoutCancel(ctx))
	p.set(g, wire.RepositoryOK)
	opened(nil)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil && err == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			err = s.API.Healthy()
		}
	}
	p.set(nil, wire.RepositoryFailed)
	g.cut(handler.ErrServerShutdown)
	g.inside.Wait()
	return err
}

func (p *place) set(g *gate, state string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate, p.state = g, state
}

// server is the repository as it is open, nil if it is not.
func (p *place) server() *Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gate == nil {
		return nil
	}
	return p.gate.server
}

// now is the state of the repository.
func (p *place) now() string {
	if s := p.server(); s != nil && s.API.Healthy() != nil {
		return wire.RepositoryFailed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// enter lets a request in, until leave; nil if the repository is not open.
func (p *place) enter() (g *gate, leave func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gate == nil {
		return nil, nil
	}
	p.gate.inside.Add(1)
	return p.gate, p.gate.inside.Done
}

// ServeHTTP answers a request, if the repository is open.
func (p *place) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g, leave := p.enter()
	if g == nil {
		p.down.ServeHTTP(w, r)
		return
	}
	defer leave()
	ctx, end := context.WithCancelCause(r.Context())
	defer end(nil)
	defer context.AfterFunc(g.ctx, func() { end(context.Cause(g.ctx)) })()
	g.handler.ServeHTTP(w, r.WithContext(ctx))
}
