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

	mu      sync.Mutex
	samples []sample // of what went out, the latest rateWindow
	made    int64    // bytes in archive form that encoders went through
	took    time.Duration

	target int64               // of packs in archive form
	begun  map[int64]time.Time // uploads in archive form that are under way
	last   int64               // number of the latest
	busy   bool                // one took long
}

// How the rates are measured.
const (
	rateWindow = 2 * time.Second
	rateEvery  = 50 * time.Millisecond
	// longUpload is how long an upload in archive form takes on a link that is busy: until
	// one did, packs grow, and say more of round trips than of the link.
	longUpload = 500 * time.Millisecond
	// encodeRate is what one encoder makes of archive form in a second, until that is
	// known.
	encodeRate = 8 << 20
)

func newLinkRate(t *client.Traffic, encoders int) *linkRate {
	return &linkRate{traffic: t, encoders: encoders, target: leastPlain, begun: map[int64]time.Time{}}
}

// leastPlain is the size of the first packs in archive form.
const leastPlain = 128 << 10

// begin notes that an upload in archive form begins, until the returned end.
func (l *linkRate) begin() (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	start := time.Now()
	l.last++
	number := l.last
	l.begun[number] = start
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.begun, number)
		switch took := time.Since(start); {
		case took > longUpload:
			l.busy = true
			l.target = max(l.target/2, leastPlain)
		case took < longUpload/2:
			l.target = min(2*l.target, wire.PackTarget)
		}
	}
}

// plain is how large a pack in archive form is to be.
func (l *linkRate) plain() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.target
}

// look notes how much went out by now.
func (l *linkRate) look() {
	now := sample{time.Now(), l.traffic.Acknowledged.Load() + l.traffic.Underway()}
	for _, start := range l.begun {
		l.busy = l.busy || now.at.Sub(start) > longUpload
	}
	if n := len(l.samples); n > 0 && now.at.Sub(l.samples[n-1].at) < rateEvery {
		return
	}
	l.samples = append(l.samples, now)
	for len(l.samples) > 2 && now.at.Sub(l.samples[0].at) > rateWindow {
		l.samples = l.samples[1:]
	}
}

// link is the bytes per second of the link, 0 while that is not known.
func (l *linkRate) link() float64 {
	l.look()
	if len(l.samples) < 2 || !l.busy {
		return 0
	}
	first, last := l.samples[0], l.samples[len(l.samples)-1]
	if took := last.at.Sub(first.at); took > 0 {
		return max(float64(last.bytes-first.bytes)/took.Seconds(), 1)
	}
	return 0
}

// slow tells whether the encoders are known to be faster than the link.
func (l *linkRate) slow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	link := l.link()
	each := float64(encodeRate)
	if l.took > time.Second {
		each = float64(l.made) / l.took.Seconds()
	}
	return link > 0 && link < each*float64(l.encoders)
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
