// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"time"

	"github.com/lirios/ostree-upload/journal"
)

// The janitor's rounds are at most and at least so long apart.
const (
	cleanEvery   = 10 * time.Minute
	cleanAtLeast = time.Second
)

// janitor expires idle sessions, deletes staged objects that none needs, and
// forgets old history, until ctx ends. What fails is tried again in the next
// round.
func (s *Server) janitor(ctx context.Context) {
	for {
		done, err := s.Clean(ctx)
		if err != nil && ctx.Err() == nil {
			s.opt.Log.Error("cleaning failed; it will be tried again", "err", err)
		}
		if done != (Cleaned{}) {
			s.opt.Log.Info("cleaned", "objects", done.Objects, "sessions", done.Sessions)
		}
		// Often enough that a session does not outlive its time by much.
		wait := min(cleanEvery, max(cleanAtLeast, time.Duration(s.opt.Settings().SessionTTL)/10))
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Clean is one round of the janitor.
func (s *Server) Clean(ctx context.Context) (Cleaned, error) {
	now := time.Now()
	if err := s.Publisher.Expire(now, s.Store.Active); err != nil {
		return Cleaned{}, err
	}
	forgotten, err := s.Journal.Trim(now.Add(-time.Duration(s.opt.Settings().History)))
	if err != nil {
		return Cleaned{}, err
	}
	if err := s.cleanDeltas(); err != nil {
		return Cleaned{}, err
	}
	deleted, err := s.cleanStaged(ctx)
	return Cleaned{Objects: deleted, Sessions: forgotten}, err
}

// cleanStaged deletes the staged objects that no session needs, but not as long as a
// session lives after a damaged journal was set aside: what those sessions had sent
// is found staged when their pushes come again.
func (s *Server) cleanStaged(ctx context.Context) (deleted int, err error) {
	aside, err := journal.SetAsideAt(databasePath(s.opt.State))
	if err != nil || time.Since(aside) < time.Duration(s.opt.Settings().SessionTTL) {
		return 0, err
	}
	return s.Store.Clean(ctx)
}

// Cleaned is what a round of the janitor took away.
type Cleaned struct {
	Objects  int // staged ones that no session needs
	Sessions int // whose time in the history was over
}
