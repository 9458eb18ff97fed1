// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/wire"
)

// A linkRate measures what the link takes, and what the encoders make.
type linkRate struct {
	traffic  *client.Traffic
	encoders int

	mu   sync.Mutex
	made int64 // bytes in archive form that encoders went through
	took time.Duration

	given int64  // bytes of uploads that have begun
	packs int    // of encoders, that are under way
	seen  sample // what had gone out at the last look
	had   bool   // and some of given had not
	full  taking

	target int64               // of packs in archive form
	begun  map[int64]time.Time // uploads in archive form that are under way
	last   int64               // number of the latest
	busy   bool                // one took so long that the link's rate counts
}

// How the rates are measured.
const (
	rateWindow = 2 * time.Second
	rateEvery  = 50 * time.Millisecond
	// longUpload is how long an upload in archive form may take. While they take less than
	// half of it packs grow, and say more of round trips than of the link.
	longUpload = 500 * time.Millisecond
	// idleSoon is how long the link has bytes when more are to be found for it.
	idleSoon = 300 * time.Millisecond
	// encodeRate is what one encoder makes of archive form in a second, until that is
	// known.
	encodeRate = 8 << 20
)

func newLinkRate(t *client.Traffic, encoders int) *linkRate {
	return &linkRate{traffic: t, encoders: encoders, given: t.Acknowledged.Load() + t.Skipped.Load(), target: leastPlain, begun: map[int64]time.Time{}}
}

// leastPlain is the size of the first packs in archive form.
const leastPlain = 128 << 10

// begin notes that an upload in archive form begins, until the returned end.
func (l *linkRate) begin(bytes int64) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.given += bytes
	start := time.Now()
	l.last++
	number := l.last
	l.begun[number] = start
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.begun, number)
		took := time.Since(start)
		if took < longUpload/2 {
			l.target = min(2*l.target, wire.PackTarget)
			return
		}
		l.busy = true
		if took > longUpload {
			l.target = max(l.target/2, leastPlain)
		}
	}
}

// plain is how large a pack in archive form is to be.
func (l *linkRate) plain() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.target
}

// out is how much went out by now.
func (l *linkRate) out() int64 {
	return l.traffic.Acknowledged.Load() + l.traffic.Skipped.Load() + l.traffic.Underway()
}

// look notes how much went out by now. Only while the link has something to take all the
// time it tells what it can take.
func (l *linkRate) look() {
	now := sample{time.Now(), l.out()}
	for _, start := range l.begun {
		l.busy = l.busy || now.at.Sub(start) > longUpload
	}
	took := now.at.Sub(l.seen.at)
	if took < rateEvery {
		return
	}
	has := l.given > now.bytes
	if l.had && has {
		l.full = l.full.and(now.bytes-l.seen.bytes, took)
	}
	l.seen, l.had = now, has
}

// A taking is what a link took, and how long it had something to take.
type taking struct {
	bytes float64
	time  time.Duration
}

// and adds to it; what is older than rateWindow counts less and less.
func (t taking) and(bytes int64, took time.Duration) taking {
	t.bytes, t.time = t.bytes+float64(bytes), t.time+took
	if t.time > rateWindow {
		t.bytes *= float64(rateWindow) / float64(t.time)
		t.time = rateWindow
	}
	return t
}

// link is the bytes per second that the link takes, 0 while that is not known.
func (l *linkRate) link() float64 {
	l.look()
	if l.full.time == 0 || !l.busy {
		return 0
	}
	return max(l.full.bytes/l.full.time.Seconds(), 1)
}

// slow tells whether the encoders are known to be faster than the link.
func (l *linkRate) slow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	link := l.link()
	return link > 0 && link < l.encoding()
}

// fast tells whether the link is known to be faster than the encoders.
func (l *linkRate) fast() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if link := l.link(); link > 0 {
		return link >= l.encoding()
	}
	return l.target >= wire.PackTarget
}

// encoding is how many bytes in archive form the encoders go through in a second.
func (l *linkRate) encoding() float64 {
	each := float64(encodeRate)
	if l.took > time.Second {
		each = float64(l.made) / l.took.Seconds()
	}
	return each * float64(l.encoders)
}

// beginPack notes that an upload of an encoder's pack begins, until the returned end.
func (l *linkRate) beginPack(bytes int64) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.given += bytes
	l.packs++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.packs--
	}
}

// free tells whether no pack of an encoder is under way.
func (l *linkRate) free() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.packs == 0
}

// idle tells whether uploads that have begun leave the link without bytes soon.
func (l *linkRate) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.given-l.out() <= int64(l.link()*idleSoon.Seconds())
}

// second is how many bytes the link takes in a second.
func (l *linkRate) second() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(int64(l.link()), leastPlain)
}

// encoded notes what an encoder went through, and how long that took.
func (l *linkRate) encoded(bytes int64, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made += bytes
	l.took += took
}
