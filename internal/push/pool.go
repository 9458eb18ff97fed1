// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/encode"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// An item is an object that the server lacks.
type item struct {
	name   ostree.Name
	origin origin // of none, if there is none
	size   int64  // of its file here
}

// An encoded is a pack of the second kind, ready to be sent.
type encoded struct {
	pack  []byte
	names []ostree.Name
	ways  ways // what it has
}

// A pool holds what is to be sent between those who find it, encoders and uploaders.
//
// Encoders take from its front, where most is saved: files with an older version, the
// largest folder first, and then the others as they were found. Uploaders take packs that
// are ready and, if there is none and the link is not to wait, an item from the back, to
// send it in archive form.
type pool struct {
	encoding string // archive, zstd, delta or auto
	most     int    // items

	mu       sync.Mutex
	changed  *sync.Cond
	queue    queue
	closed   bool // no more items come from outside
	plain    []item
	ready    []*encoded
	bytes    int // of ready
	encoders int // that are at work on something
	rate     rate
}

// How much a pool holds.
const (
	poolItems = 65_536  // where items are sorted
	readyMost = 8 << 20 // bytes of packs that wait for an uploader
)

// Auto is the encoding that is chosen as the link is, next to the server's.
const Auto = "auto"

func newPool(encoding string, rate rate) *pool {
	p := &pool{encoding: encoding, most: poolItems, rate: rate}
	if encoding == encode.NameArchive {
		p.most = lackingQueue
	}
	p.changed = sync.NewCond(&p.mu)
	return p
}

// wake has a wait end with ctx.
func (p *pool) wake(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.changed.Broadcast()
	})
}

// add adds an item, and waits while there are too many.
func (p *pool) add(ctx context.Context, i item) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.wake(ctx)()
	for p.queue.len() >= p.most && ctx.Err() == nil {
		p.changed.Wait()
	}
	p.queue.add(i)
	p.changed.Broadcast()
	return ctx.Err()
}

// close says that no more items come.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.changed.Broadcast()
}

// encodes tells whether encoders are to work: always if an encoding is asked for, and
// else while the link takes less than they do.
func (p *pool) encodes() bool {
	switch p.encoding {
	case encode.NameArchive:
		return false
	case Auto:
		return p.rate.slow()
	}
	return true
}

// take gives an uploader what is next: a pack that is ready, or an item for archive form.
// It is false once there is nothing more, or ctx has ended.
func (p *pool) take(ctx context.Context) (pack *encoded, one item, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.wake(ctx)()
	for ctx.Err() == nil {
		if len(p.ready) > 0 {
			pack = p.ready[0]
			p.ready = p.ready[1:]
			p.bytes -= len(pack.pack)
			p.changed.Broadcast()
			return pack, item{}, true
		}
		if len(p.plain) > 0 {
			one = p.plain[0]
			p.plain = p.plain[1:]
			return nil, one, true
		}
		if one, ok = p.takePlain(); ok {
			p.changed.Broadcast()
			return nil, one, true
		}
		if p.closed && p.queue.len() == 0 && p.encoders == 0 {
			return nil, item{}, false
		}
		p.changed.Wait()
	}
	return nil, item{}, false
}

// takePlain takes an item that is better sent in archive form now than encoded later.
func (p *pool) takePlain() (one item, ok bool) {
	q := &p.queue
	switch {
	case q.len() == 0:
		return item{}, false
	case p.encoding == encode.NameArchive:
		return q.next(), true
	case p.encoding != Auto:
		return item{}, false
	case p.rate.slow():
		// The encoders are at work, and will be at the large ones before those are sent. What
		// they have made goes first: a second upload beside it would only take its bytes away.
		if (p.rate.free() || p.rate.idle()) && q.lastSize() <= p.rate.second() {
			return q.last(), true
		}
		return item{}, false
	case p.rate.fast() || q.nextSize() <= p.rate.plain():
		return q.next(), true
	case p.rate.idle() || q.lastSize() <= p.rate.plain():
		// Until it is known how fast the link is, nothing goes that would keep a slow one busy
		// for long, unless that is all there is.
		return q.last(), true
	}
	return item{}, false
}

// batch gives an encoder what is next, the first of a pack or more for it: an item and
// those that are very like it, such as a program and its twin, which are to be in one
// pack. There is none once all are taken, or ctx has ended.
func (p *pool) batch(ctx context.Context, first bool) []item {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.wake(ctx)()
	for first && ctx.Err() == nil && (p.queue.len() == 0 && !p.closed || p.queue.len() > 0 && !p.mayBegin()) {
		p.changed.Wait()
	}
	if ctx.Err() != nil || p.queue.len() == 0 {
		return nil
	}
	batch := p.queue.first()
	if first {
		p.encoders++
	}
	p.changed.Broadcast()
	return batch
}

func (p *pool) mayBegin() bool { return p.encodes() && p.bytes < readyMost }

// done says that an encoder has made a pack, or none, and gives items back that have to go
// in archive form.
func (p *pool) done(pack *encoded, plain []item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.encoders--
	if pack != nil {
		p.ready = append(p.ready, pack)
		p.bytes += len(pack.pack)
	}
	p.plain = append(p.plain, plain...)
	p.changed.Broadcast()
}

// A rate tells how fast the link and the encoders are. It is asked often, by everyone.
type rate interface {
	slow() bool    // the link is known to be slower than the encoders
	fast() bool    // the link is known to be faster
	idle() bool    // nothing is left for it soon
	free() bool    // no pack of an encoder is under way
	second() int64 // bytes that it takes in a second
	plain() int64  // bytes of a pack in archive form
}

// tick wakes those who wait in a pool now and then, as the link may have changed, until
// nothing is left in it.
func (p *pool) tick(ctx context.Context) error {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.mu.Lock()
			p.changed.Broadcast()
			over := p.closed && p.queue.len() == 0
			p.mu.Unlock()
			if over {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
