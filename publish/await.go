// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"

	"github.com/lirios/ostree-upload/journal"
)

// await begins the wait for a session, unless that has begun: for what has arrived of it
// to be staged, and for the verification of what the repository has, if it is to repair.
func (p *Publisher) await(ctx context.Context, s *journal.Session) *ahead {
	a := p.awaited[s.ID]
	if a == nil {
		a = p.begin(s.Token, func() error {
			err := p.cfg.Ready(ctx, s.ID)
			if err == nil && s.Repair {
				err = p.proveHeld(ctx, s)
			}
			return err
		})
		p.awaited[s.ID] = a
	}
	return a
}

// ready returns what came of the wait for a session, and forgets it: the session has
// to be waited for again when it is finalized again.
func (p *Publisher) ready(ctx context.Context, s *journal.Session) error {
	if s.State == journal.Publishing { // since a crash: nothing arrives any more
		return p.cfg.Ready(ctx, s.ID)
	}
	a := p.await(ctx, s)
	delete(p.awaited, s.ID)
	<-a.ended
	return a.err
}

// keepAwaited forgets the waits for sessions that are no longer verifying.
func (p *Publisher) keepAwaited(verifying []journal.Session) {
	kept := make(map[string]*ahead)
	for _, s := range verifying {
		if a := p.awaited[s.ID]; a != nil {
			kept[s.ID] = a
		}
	}
	p.awaited = kept
}
