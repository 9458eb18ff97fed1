// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"errors"
	"fmt"
	"time"

	"github.com/lirios/ostree-upload/journal"
)

// ahead is something that is done for one session before its turn, beside the publishes
// of others.
type ahead struct {
	token string
	ended chan struct{}
	err   error // once it has ended: why the session is not published
}

// begin begins do for a session of a token. When it has ended, the sessions are looked at
// again.
func (p *Publisher) begin(token string, do func() error) *ahead {
	a := &ahead{token: token, ended: make(chan struct{})}
	p.waiting.Go(func() {
		a.err = do()
		close(a.ended)
		p.Enqueue()
	})
	return a
}

func (a *ahead) over() bool {
	select {
	case <-a.ended:
		return true
	default:
		return false
	}
}

// say tells in a session what it waits for. One that has moved on
// meanwhile is not told.
func (p *Publisher) say(s *journal.Session, text string) error {
	if s.Detail == text {
		return nil
	}
	_, err := p.cfg.Journal.MoveFrom(s.ID, s.State, s.State, func(s *journal.Session) { s.Detail = text })
	if closed := new(journal.StateError); errors.As(err, &closed) || errors.Is(err, journal.ErrNotFound) {
		return nil
	}
	return err
}

// tellEvery is how often a session says how far something is that is done ahead of its
// turn.
const tellEvery = 10 * time.Second

// teller says so of one session.
type teller struct {
	*Publisher
	session *journal.Session
	said    time.Time
}

func (t *teller) tell(format string, args ...any) {
	if time.Since(t.said) < tellEvery {
		return
	}
	t.said = time.Now()
	if err := t.say(t.session, fmt.Sprintf(format, args...)); err != nil {
		t.cfg.Log.Error("cannot note how far a session is", "session", t.session.ID, "err", err)
	}
}
