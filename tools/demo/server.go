// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/process"
)

// A server is a running `ostree-upload receive`.
type server struct {
	address string // URL
	token   string
	client  *client.Client
	cmd     *exec.Cmd
	ended   chan error // gets what Wait returned
}

// pollEvery is how long the demo rests between two looks at something.
const pollEvery = 2 * time.Millisecond

// The demo runs on small machines too, where a gigabyte may not be free.
const configuration = `# The demo's production host.
repo: production
limits: {min-free-space: 0}
`

// startServer makes a token, and a production repository by receive --init,
// and returns once the server answers.
func (d *demo) startServer(ctx context.Context) (string, error) {
	if err := os.WriteFile(d.path("ostree-upload.yaml"), []byte(configuration), 0o600); err != nil {
		return "", err
	}
	token, err := d.makeToken(ctx)
	if err != nil {
		return "", err
	}
	host, err := freePort()
	if err != nil {
		return "", err
	}
	d.server, err = d.start(ctx, "http://"+host, token, d.command(context.WithoutCancel(ctx), d.binary, "receive", "--init", "--address="+host))
	return "receive --init made the production repository and listens on http://" + host, err
}

func (d *demo) makeToken(ctx context.Context) (string, error) {
	return d.output(ctx, d.binary, "gentoken", "--name=demo", "--ref=demo/**")
}

// start starts what answers at an address, and returns once it does. It is not bound to
// a ctx: it is stopped last, by cleanUp.
func (d *demo) start(ctx context.Context, address, token string, cmd *exec.Cmd) (*server, error) {
	s := &server{address: address, token: token, cmd: cmd, ended: make(chan error, 1)}
	var err error
	if s.client, err = client.New(s.address, token); err != nil {
		return nil, err
	}
	log, err := os.CreateTemp(d.folder, "log-")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { s.ended <- s.cmd.Wait() }()
	if err := s.ready(ctx); err != nil {
		s.stop()
		text, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, text)
	}
	return s, nil
}

// freePort is an address of the loopback interface that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// ready returns once the server says that it is well.
func (s *server) ready(ctx context.Context) error {
	return poll(ctx, 30*time.Second, func() (bool, error) {
		select {
		case err := <-s.ended:
			s.ended <- err
			return false, fmt.Errorf("the server ended: %v", err)
		default:
		}
		_, err := s.client.Sessions(ctx, wire.Open)
		return err == nil, nil
	})
}

// stop ends the server as an operator would, and kills it if it will not.
func (s *server) stop() {
	s.client.Close()
	process.Stop(s.cmd.Process, s.ended, 15*time.Second)
}

// poll asks until it is so, or an error, or the time is up.
func poll(ctx context.Context, limit time.Duration, isSo func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errors.New("still not so after "+limit.String()))
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if done, err := isSo(); done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
