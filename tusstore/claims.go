// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

// claims knows the uploads that are not done, how many bytes of each have come,
// and how many are still to come. It keeps sums, so that no question takes longer
// the more uploads there are.
type claims struct {
	mu       sync.Mutex
	sessions map[string]*claim // those with uploads that are not done
}

// claim is what the uploads of one session are about to take.
type claim struct {
	token   string
	uploads map[string]*progress
	unsent  int64     // bytes of uploads that have not come
	begun   int64     // those of uploads of which some bytes have come
	come    int64     // bytes of uploads that have come
	last    time.Time // when bytes came; zero if none have
}

// progress is how far one upload has come.
type progress struct{ size, offset int64 }

func newClaims() *claims { return &claims{sessions: make(map[string]*claim)} }

// add adds an upload to the sums, n times.
func (c *claim) add(p *progress, n int64) {
	c.unsent += n * (p.size - p.offset)
	c.come += n * p.offset
	if p.offset > 0 {
		c.begun += n * (p.size - p.offset)
	}
}

// set notes an upload as it is.
func (c *claims) set(session, token, name string, now progress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[session]
	if s == nil {
		s = &claim{token: token, uploads: make(map[string]*progress)}
		c.sessions[session] = s
	}
	if old := s.uploads[name]; old != nil {
		s.add(old, -1)
	}
	s.uploads[name] = &now
	s.add(&now, 1)
}

// arrived notes that an upload has its bytes up to offset, the last at a time.
func (c *claims) arrived(session, name string, offset int64, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[session]
	if s == nil || s.uploads[name] == nil {
		return // it was dropped
	}
	p := s.uploads[name]
	s.add(p, -1)
	p.offset = offset
	s.add(p, 1)
	if at.After(s.last) {
		s.last = at
	}
}

// remove forgets an upload.
func (c *claims) remove(session, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[session]
	if s == nil || s.uploads[name] == nil {
		return
	}
	s.add(s.uploads[name], -1)
	delete(s.uploads, name)
	if len(s.uploads) == 0 {
		delete(c.sessions, session)
	}
}

// removeAll forgets the uploads of a session.
func (c *claims) removeAll(session string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, session)
}

// upload tells whose an upload is, and how many bytes of it have come.
func (c *claims) upload(session, name string) (token string, come int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[session]
	if s == nil {
		return "", 0
	}
	if p := s.uploads[name]; p != nil {
		come = p.offset
	}
	return s.token, come
}

// list lists the uploads of a session, by name.
func (c *claims) list(session string) []wire.Upload {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[session]
	if s == nil {
		return []wire.Upload{} // [] and not null
	}
	list := make([]wire.Upload, 0, len(s.uploads))
	for name, p := range s.uploads {
		list = append(list, wire.Upload{Name: name, Offset: p.offset, Size: p.size})
	}
	slices.SortFunc(list, func(a, b wire.Upload) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// count counts the uploads of a token.
func (c *claims) count(token string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sessions {
		if s.token == token {
			n += len(s.uploads)
		}
	}
	return n
}

// received sums up the bytes that have come of a session's uploads.
func (c *claims) received(session string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.sessions[session]; s != nil {
		return s.come
	}
	return 0
}

// active is when bytes of a session's uploads came; zero if none have.
func (c *claims) active(session string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.sessions[session]; s != nil {
		return s.last
	}
	return time.Time{}
}

// idleTime is after how long without a byte a session's uploads hold no room
// against other tokens.
const idleTime = 5 * time.Minute

// unsent sums up what is still to come: for a token all that it has claimed, for
// the others what is on its way now.
func (c *claims) unsent(token string, now time.Time) (own, others int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sessions {
		switch {
		case s.token == token:
			own += s.unsent
		case now.Sub(s.last) < idleTime:
			others += s.begun
		}
	}
	return own, others
}
