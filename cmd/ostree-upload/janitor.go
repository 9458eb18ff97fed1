// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
)

// cleanEvery bounds the time between two rounds of the janitor.
const (
	cleanEvery   = 10 * time.Minute
	cleanAtLeast = time.Second
)

// janitor expires idle sessions, deletes staged objects that none needs, and
// forgets old history, until ctx ends. What fails is tried again next time.
func (a *assembly) janitor(ctx context.Context, settings func() *config.Config, log *slog.Logger) {
	for {
		s := settings()
		if err := a.clean(ctx, s, log); err != nil && ctx.Err() == nil {
			log.Error("cleaning failed; it will be tried again", "err", err)
		}
		// Often enough that a session does not outlive its time by much.
		wait := min(cleanEvery, max(cleanAtLeast, time.Duration(s.SessionTTL)/10))
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (a *assembly) clean(ctx context.Context, s *config.Config, log *slog.Logger) error {
	now := time.Now()
	if err := a.publisher.Expire(now, a.store.Active); err != nil {
		return err
	}
	forgotten, err := a.journal.Trim(now.Add(-time.Duration(s.History)))
	if err != nil {
		return err
	}
	deleted, err := a.store.Clean(ctx)
	if deleted > 0 || forgotten > 0 {
		log.Info("cleaned", "objects", deleted, "sessions", forgotten)
	}
	return err
}
