// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
)

// Listen opens the port as Serve does.
func Listen(address string, files config.TLS) (net.Listener, error) {
	pair, err := loadCertificate(files, slog.Default())
	if err != nil {
		return nil, err
	}
	e, err := openEntrance(Options{Address: address}, pair)
	if err != nil {
		return nil, err
	}
	return e.listeners[0], nil
}

// ListenForPage opens the port of the page, as start does, and returns where it is.
func (s *Server) ListenForPage(address string) (string, error) {
	e := new(entrance)
	err := e.openPage(address, s.opt.Repo)
	if err != nil {
		return "", err
	}
	s.pageAt = e.page
	return e.page.Addr().String(), nil
}

// RunSeveral serves several repositories on a listener until ctx ends. opened gets the first
// of them once all are open.
func RunSeveral(ctx context.Context, opt Options, l net.Listener, opened func(*Server)) error {
	s := newSeveral(opt)
	var once sync.Once
	defer once.Do(func() { opened(nil) })
	return s.run(ctx, &entrance{listeners: []net.Listener{l}}, func() func() {
		once.Do(func() { opened(s.places[0].server()) })
		return func() {}
	})
}

// NoteChanges is what says in the log that a change takes a restart.
var NoteChanges = noteChanges

// PrepareMirror is what a start asks a bucket for, with another patience.
func PrepareMirror(ctx context.Context, opt Options, patience time.Duration) error {
	opt.patience = patience
	return prepareMirror(ctx, &opt)
}
