// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"log/slog"
	"time"

	"github.com/lirios/ostree-upload/journal"
)

// Seen is told how long things take; what is nil is not told.
type Seen struct {
	// LockWait is how long a publish waited for the repository's lock, Shared or
	// Exclusive, whether it got it or not.
	LockWait func(lock string, took time.Duration)
	// Published is how long a session waited for its publish, how long that took, and
	// what came of it: wire.Published, or the code of an Outcome.
	Published func(outcome string, waited, took time.Duration)
	// Work is how long a try of a work took, and whether it did it.
	Work func(work string, done bool, took time.Duration)
}

// The repository's locks, as Seen names them.
const (
	Shared    = "shared"
	Exclusive = "exclusive"
)

func (s *Seen) fill() {
	if s.LockWait == nil {
		s.LockWait = func(string, time.Duration) {}
	}
	if s.Published == nil {
		s.Published = func(string, time.Duration, time.Duration) {}
	}
	if s.Work == nil {
		s.Work = func(string, bool, time.Duration) {}
	}
}

// log has the keys of each line about a session, as a line about a request of it.
func (p *Publisher) log(s *journal.Session) *slog.Logger {
	log := p.cfg.Log.With("session", s.ID, "token", s.Token)
	if s.Subject != "" {
		log = log.With("subject", s.Subject)
	}
	return log.With("remote", s.Remote, "request", s.Request)
}

// maxPublished is how many refs of a session have a line of their own in the log.
const maxPublished = 100

// logPublished tells which refs moved from where to where, and by whom.
func logPublished(log *slog.Logger, s *journal.Session, took time.Duration) {
	for _, r := range s.Refs[:min(len(s.Refs), maxPublished)] {
		log.Info("published", "ref", r.Ref, "old", r.Old, "new", r.New,
			"objects", s.Counts.Staged, "bytes", s.Counts.Received, "took", took, "age", s.Age(time.Now()))
	}
	if more := len(s.Refs) - maxPublished; more > 0 {
		log.Info("published more", "refs", more, "took", took)
	}
}
