// SPDX-License-Identifier: AGPL-3.0-or-later

// Package after does the works that follow a publish, as the configuration asks for them.
//
//   - A work runs as a program of its own, at a lower priority, and within a time limit.
//   - It may be repeated, and may find that what it is done for has been replaced since.
//   - No lock of the repository is held for it.
//
// Package publish decides when one is done, one at a time.
package after

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/program"
	"github.com/lirios/ostree-upload/publish"
)

// lowerPriority is by how much the priority of all works is lower than the server's.
const lowerPriority = 10

// Work is a work of the configuration.
type Work struct {
	config.After
	Repo   string     // absolute path of the repository, or its URL in a bucket
	Deltas Deltas     // those that the server makes
	GPG    config.GPG // what it signs with
	Log    *slog.Logger
}

// Follower is the work as the publisher does it.
func (w *Work) Follower() publish.Follower {
	f := publish.Follower{Work: w.Name, Concerns: w.Concerns, Do: w.do}
	switch w.Kind {
	case config.AfterDeltas:
		f.Untold, f.Told = w.Deltas.Keeper.Untold, w.Deltas.Keeper.Told
	case config.AfterFlatpak:
		f.Summary = w.Flatpak.WritesSummary()
	}
	return f
}

func (w *Work) do(ctx context.Context, d publish.Due) error {
	switch w.Kind {
	case config.AfterDeltas:
		return w.Deltas.Keeper.Do(ctx, w.Deltas.Settings)
	case config.AfterFlatpak:
		return w.flatpak(ctx)
	case config.AfterCommand:
		return w.command(ctx, d)
	}
	return fmt.Errorf("this build knows no work %q", w.Kind)
}

// Check tells why the work cannot be done as it is configured, nil if nothing is known
// against it.
func (w *Work) Check() error {
	switch w.Kind {
	case config.AfterFlatpak:
		return program.Check([]string{flatpakProgram})
	case config.AfterCommand:
		return program.Check(w.Command)
	}
	return nil
}

// run runs a program for the work, within the time limit of the configuration or, if that
// has none, the one given. What it says goes to the log.
func (w *Work) run(ctx context.Context, c program.Command, limit time.Duration) error {
	c.Nice, c.Timeout = lowerPriority, cmp.Or(time.Duration(w.Timeout), limit)
	c.Env = append(c.Env, "OSTREE_REPO="+w.Repo) // which ostree itself reads, too
	said, err := program.Run(ctx, c)
	for _, line := range said {
		w.Log.Info("a work says", "work", w.Name, "line", line)
	}
	return err
}
