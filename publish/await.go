// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"

	"github.com/lirios/ostree-upload/journal"
)

// awaited is the wait for what has arrived of a session to be staged, and the
// verification of what the repository has for one that is to repair. That may take
// long, so it goes on beside the publishes of others.
type awaited struct {
	ended chan struct{}
	err   error // once it has ended
}

func (a *awaited) done() bool {
	select {
	case <-a.ended:
		return true
	default:
		return false
	}
}

// await begins the wait for a session, unless that has begun.
func (p *Publisher) await(ctx context.Context, s *journal.Session) *awaited {
	a := p.awaited[s.ID]
	if a == nil {
		a = &awaited{ended: make(chan struct{})}
		p.awaited[s.ID] = a
		p.waiting.Go(func() {
			a.err = p.cfg.Ready(ctx, s.ID)
			if a.err == nil && s.Repair {
				a.err = p.proveHeld(ctx, s)
			}
			close(a.ended)
			p.Enqueue()
		})
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
	kept := make(map[string]*awaited)
	for _, s := range verifying {
		if a := p.awaited[s.ID]; a != nil {
			kept[s.ID] = a
		}
	}
	p.awaited = kept
}
