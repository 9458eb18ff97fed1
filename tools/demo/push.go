// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
)

// killAt is how much of the repository has arrived when the push is killed.
const killAt = 0.35

// A thirdPush is a push of which a third has arrived.
type thirdPush struct {
	cmd           *exec.Cmd
	ended         chan error
	complaints    *strings.Builder // its stderr; complete once it has ended
	arrived, size int64
}

// startPush starts a push and watches the server until a third of the bytes is there.
func (d *demo) startPush(ctx context.Context) (*thirdPush, error) {
	_, size, err := measure(d.path("build/objects"))
	if err != nil {
		return nil, err
	}
	// One connection and small requests, as otherwise this machine may well be
	// done before it can be interrupted.
	p := &thirdPush{cmd: d.command(ctx, d.binary, d.pushing("--jobs=1", "--chunk-size=256KiB")...), ended: make(chan error, 1), complaints: new(strings.Builder), size: size}
	p.cmd.Stderr = p.complaints
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.ended <- p.cmd.Wait() }()
	if p.arrived, err = d.watch(ctx, p.ended, int64(killAt*float64(size))); err != nil {
		p.cmd.Process.Kill()
		return nil, fmt.Errorf("%w\n%s", err, p.complaints.String())
	}
	return p, nil
}

// killedPush kills the client of a push as a power cut would.
func (d *demo) killedPush(ctx context.Context) (string, error) {
	p, err := d.startPush(ctx)
	if err != nil {
		return "", err
	}
	if err := kill(p.cmd, p.ended); err != nil {
		return "", err
	}
	s, err := d.server.client.Session(ctx, d.session, 0)
	if err != nil {
		return "", err
	}
	if s.State != wire.Open {
		return "", fmt.Errorf("session %s is %s, it was killed too late", s.ID, s.State)
	}
	return fmt.Sprintf("kill -9 after %s of %s; session %s is %s", megabytes(p.arrived), megabytes(p.size), s.ID, s.State), nil
}

// pushing is the command line of a push of the demo's ref.
func (d *demo) pushing(more ...string) []string {
	return append([]string{"push", "--repo=build", "--address=" + d.server.address, "--token=" + d.server.token}, more...)
}

// watch returns when at least enough bytes of the one open session are on the
// server, and how many there are.
func (d *demo) watch(ctx context.Context, ended chan error, enough int64) (arrived int64, err error) {
	err = poll(ctx, 5*time.Minute, func() (bool, error) {
		select {
		case err := <-ended:
			ended <- err
			return false, fmt.Errorf("the push ended before it was killed: %v", err)
		default:
		}
		if d.session == "" {
			return false, d.findSession(ctx)
		}
		s, err := d.server.client.Session(ctx, d.session, 0)
		if err != nil {
			return false, err
		}
		arrived = s.Bytes.Received
		return arrived >= enough, nil
	})
	return arrived, err
}

// findSession asks the server which session there is, as a person whose
// machine died would do by `ostree-upload sessions`.
func (d *demo) findSession(ctx context.Context) error {
	list, err := d.server.client.Sessions(ctx, wire.Open)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		d.session = list[0].ID
	}
	return nil
}

// kill ends a child by SIGKILL, and fails if it ended otherwise.
func kill(cmd *exec.Cmd, ended chan error) error {
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	var exit *exec.ExitError
	err := <-ended
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL {
			return nil
		}
	}
	return fmt.Errorf("the push was not killed, it ended: %v", err)
}

// resumedPush goes on with the killed push by its session ID.
func (d *demo) resumedPush(ctx context.Context) (string, error) {
	out, err := d.output(ctx, d.binary, d.pushing("--resume="+d.session, "--json")...)
	if err != nil {
		return "", err
	}
	var r push.Result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return "", err
	}
	if r.Session.ID != d.session || r.Session.State != wire.Published {
		return "", fmt.Errorf("session %s is %s", r.Session.ID, r.Session.State)
	}
	_, size, err := measure(d.path("build/objects"))
	return fmt.Sprintf("push --resume %s sent the other %s of %s, and %s is published",
		d.session, megabytes(r.BytesSent), megabytes(size), ref), err
}

// listSessions shows what a person sees.
func (d *demo) listSessions(ctx context.Context) (string, error) {
	out, err := d.output(ctx, d.binary, "sessions", "--address="+d.server.address, "--token="+d.server.token)
	return "ostree-upload sessions\n          " + strings.ReplaceAll(out, "\n", "\n          "), err
}
