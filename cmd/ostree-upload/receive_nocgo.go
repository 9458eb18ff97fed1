// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build !cgo

package main

import (
	"context"

	"github.com/lirios/ostree-upload/internal/wire"
)

func (c *ReceiveCmd) serve(context.Context, *App) error { return errNoLibostree }

func (c *CheckCmd) check(context.Context, *App) error { return errNoLibostree }

var errNoLibostree = wire.Errorf(wire.Policy, "this build of ostree-upload has no libostree: it can push, and neither receive nor check").
	WithHint("build it with CGO_ENABLED=1 and libostree's headers: make build")
