// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import "sync"

// smallestChunk is where halving the chunk ends.
const smallestChunk = 64 << 10

// growAfter is how many chunks' worth have to arrive before the chunk grows.
const growAfter = 16

// A pace is how many bytes one request carries, for all uploads of an Uploader. A
// proxy that collects requests before it hands them on loses all of one that
// breaks off, so they get smaller when that happens, and larger again when much
// got through: each costs two round trips, but a link that breaks all the time
// must not lose a large one after every small one.
type pace struct {
	mu   sync.Mutex
	now  int64
	most int64 // asked for, or what a proxy lets through
	good int64 // bytes that arrived since now changed or one broke off
}

func newPace(most int64) *pace { return &pace{now: most, most: most} }

// next is the size for a request.
func (p *pace) next() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// dropped notes that a request of so many bytes broke off. Several that break
// off together, as they do when a link fails, count as one.
func (p *pace) dropped(sent int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now, p.good = max(smallestChunk, min(p.now, sent/2)), 0
}

// arrived notes that the server has all of a request.
func (p *pace) arrived(sent int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.good += sent; p.good >= growAfter*p.now {
		p.now, p.good = min(p.most, 2*p.now), 0
	}
}

// refused notes that something on the way takes no request of so many bytes,
// and reports whether a smaller one may be tried.
func (p *pace) refused(sent int64) bool {
	if sent <= smallestChunk {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.most = max(smallestChunk, min(p.most, sent/2))
	p.now = min(p.now, p.most)
	return true
}
