// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import "time"

// What of the workers' time a token may have and still count as one that had little of
// it: so much of each worker's at once, and one part of all their time after that.
const (
	littleTime  = 2 * time.Second
	littleParts = 8
)

// usage knows how much of the workers' time each token had lately. It is guarded by
// whoever has it.
type usage struct {
	workers time.Duration
	now     func() time.Time
	tokens  map[string]*spell
}

// spell is what a token had: it becomes less with time.
type spell struct {
	had time.Duration
	at  time.Time // when that was so
}

func newUsage(workers int) *usage {
	return &usage{workers: time.Duration(workers), now: time.Now, tokens: make(map[string]*spell)}
}

// add counts time of a worker, up to twice of what is little: nobody has to wait for
// long until it is forgotten.
func (u *usage) add(token string, d time.Duration) {
	s := u.tokens[token]
	if s == nil {
		s = &spell{at: u.now()}
		u.tokens[token] = s
	}
	u.fade(s)
	s.had = min(s.had+d, 2*u.workers*littleTime)
}

// much tells whether a token had much of the workers' time.
func (u *usage) much(token string) bool {
	s := u.tokens[token]
	if s == nil {
		return false
	}
	u.fade(s)
	return s.had > u.workers*littleTime
}

func (u *usage) fade(s *spell) {
	now := u.now()
	s.had = max(0, s.had-now.Sub(s.at)*u.workers/littleParts)
	s.at = now
}
