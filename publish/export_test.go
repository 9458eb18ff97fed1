// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/sign"
	"github.com/lirios/ostree-upload/internal/token"
)

// NoKeys are those of a server that signs nothing.
func NoKeys() *sign.Keys { return nil }

// WarnOfSummary is what a start does about the summary.
func WarnOfSummary(repo string, setting Summary, log *slog.Logger) {
	newSummary(repo, func() Summary { return setting }, NoKeys).begin(context.Background(), log)
}

// WriteSummary is what a publish does about the summary, where a signature may
// follow for that long; known if this server wrote the summary that is there.
func WriteSummary(path string, signTime time.Duration, known bool) (why string, err error) {
	repo, err := libostree.Open(path)
	if err != nil {
		return "", err
	}
	defer repo.Close()
	s := newSummary(path, func() Summary { return Auto }, NoKeys)
	s.signTime = signTime
	if known {
		s.known, err = s.stat()
	}
	why, failed := s.write(context.Background(), repo)
	return why, errors.Join(err, failed)
}

// MoveLate is what comes of a publish in a bucket that was marked at a time and moves its
// refs now, and whether it is tried again.
func MoveLate(marked time.Time) (later bool, err error) {
	b := &inBucket{}
	err = (&bucketMoves{bucketChange: &bucketChange{inBucket: b, marked: marked}}).begin(0)
	later, _ = b.later(err)
	return later, err
}

// AskToken has the Publisher ask for tokens here, and here only. Nothing may be under
// way.
func (p *Publisher) AskToken(ask func(name string) *token.Token) { p.cfg.Token = ask }

// Awaited counts the sessions for which the wait for their uploads is over, for what runs
// within a pass.
func (p *Publisher) Awaited() (over int) {
	for _, a := range p.awaited {
		if a.over() {
			over++
		}
	}
	return over
}

// RepairSummary is what KeepSummary does each time.
func (p *Publisher) RepairSummary(ctx context.Context) error { return p.repairSummary(ctx) }
