// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build !cgo

package main

import (
	"context"
	"errors"

	"github.com/lirios/ostree-upload/internal/hint"
)

// serverCommands are not in the help of a build that cannot run them.
type serverCommands struct {
	Receive ReceiveCmd `cmd:"" hidden:"" help:"Not in this build."`
	Check   CheckCmd   `cmd:"" hidden:"" help:"Not in this build."`
	Prune   PruneCmd   `cmd:"" hidden:"" help:"Not in this build."`
	Health  HealthCmd  `cmd:"" hidden:"" help:"Ask the server of this machine whether it is healthy."`
}

func (c *ReceiveCmd) serve(context.Context, *App) error { return errNoLibostree }

func (c *CheckCmd) check(context.Context, *App) error { return errNoLibostree }

func (c *PruneCmd) prune(context.Context, *App) error { return errNoLibostree }

var errNoLibostree = hint.Add(errors.New("this build of ostree-upload has no libostree: it can push, but not receive, check, prune or read a state folder"),
	"build it with CGO_ENABLED=1 and libostree's headers: make build")

// stoppedFlags are not in this build either: it reads no journal.
type stoppedFlags struct {
	State string `hidden:"" help:"Not in this build."`
}

func (*stoppedFlags) look() (sessionSource, error) { return nil, errNoLibostree }
