// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/encode"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// What is in flight between the stages: names are small; packs are not, and there
// are at most as many as uploaders.
const (
	negotiations = 3      // requests under way at once
	firstBatch   = 500    // names in the first request: uploads begin early
	largestBatch = 16_000 // names in later ones; below wire.MaxNames
	lackingQueue = 4096   // names that wait for an uploader
)

// A source calls visit for each object to offer to the server.
type source func(ctx context.Context, visit func(ostree.Name) error) error

// listSource is the source of a list.
func listSource(names []ostree.Name) source {
	return func(_ context.Context, visit func(ostree.Name) error) error {
		for _, n := range names {
			if err := visit(n); err != nil {
				return err
			}
		}
		return nil
	}
}

// inBatches calls do with all names, at most size at a time.
func (src source) inBatches(ctx context.Context, size int, do func([]ostree.Name) error) error {
	batch := make([]ostree.Name, 0, size)
	flush := func() error {
		err := do(batch)
		batch = batch[:0]
		return err
	}
	err := src(ctx, func(n ostree.Name) error {
		if batch = append(batch, n); len(batch) < size {
			return nil
		}
		return flush()
	})
	if err == nil && len(batch) > 0 {
		err = flush()
	}
	return err
}

// A pipeline moves the objects of one source to the server.
type pipeline struct {
	run     *run
	start   time.Time
	batches chan []ostree.Name
	pool    *pool
	basis   *basis
	links   *linkRate

	sent atomic.Pointer[ostree.Name] // the first object that was sent
}

// transfer sends what the server lacks of src and returns the name of one object
// that was sent, nil if none was.
func (r *run) transfer(ctx context.Context, src source) (*ostree.Name, error) {
	p := &pipeline{
		run: r, start: time.Now(), batches: make(chan []ostree.Name, negotiations),
		links: newLinkRate(&r.progress.Traffic, r.opt.Encoders),
	}
	p.pool = newPool(r.encoding(), p.links)
	var err error
	if p.basis, err = r.basisOf(ctx, p.pool.encoding); err != nil {
		return nil, err
	}
	err = p.flow(ctx, src)
	r.lastByte = time.Now()
	r.seconds.Upload += since(p.start) // rounds add up
	r.progress.Set(Verifying)
	return p.sent.Load(), err
}

// flow runs the stages until everything has been sent.
func (p *pipeline) flow(ctx context.Context, src source) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.walk(ctx, src) })
	g.Go(func() error { return p.negotiateAll(ctx) })
	if p.pool.encoding != encode.NameArchive {
		for range p.run.opt.Encoders {
			g.Go(func() error { return p.encode(ctx) })
		}
		g.Go(func() error { return p.pool.tick(ctx) })
	}
	for range p.run.opt.Jobs {
		g.Go(func() error { return p.upload(ctx) })
	}
	return g.Wait()
}

// walk gathers names into batches that grow.
func (p *pipeline) walk(ctx context.Context, src source) error {
	defer close(p.batches)
	size := min(firstBatch, p.run.opt.mostNames())
	batch := make([]ostree.Name, 0, size)
	flush := func() error {
		if err := sendTo(ctx, p.batches, batch); err != nil {
			return err
		}
		size = min(2*size, p.run.opt.mostNames())
		batch = make([]ostree.Name, 0, size)
		return nil
	}
	first := p.run.rounds == 0 // later rounds walk the same objects
	err := src(ctx, func(n ostree.Name) error {
		if first {
			p.run.progress.Walked.Add(1)
			if n.Type == ostree.CommitMeta {
				p.run.metas++
			}
		}
		if batch = append(batch, n); len(batch) < size {
			return nil
		}
		return flush()
	})
	p.run.seconds.Walk += since(p.start)
	if err != nil {
		return err
	}
	return flush()
}

// negotiateAll asks about each batch, some at once.
func (p *pipeline) negotiateAll(ctx context.Context) error {
	defer p.pool.close()
	g, ctx := errgroup.WithContext(ctx)
	for range negotiations {
		g.Go(func() error { return p.negotiateSome(ctx) })
	}
	err := g.Wait()
	p.run.seconds.Negotiate += since(p.start)
	p.run.progress.Listed.Store(err == nil)
	return err
}

func (p *pipeline) negotiateSome(ctx context.Context) error {
	for batch := range p.batches {
		lacking, err := p.run.negotiateBatch(ctx, batch)
		if err != nil {
			return err
		}
		for _, n := range lacking {
			if err := p.offer(ctx, n); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// offer puts an object into the pool.
func (p *pipeline) offer(ctx context.Context, n ostree.Name) error {
	one := item{name: n, origin: origin{none: true}}
	if p.pool.encoding != encode.NameArchive {
		m, err := p.run.repo.Measure(n)
		if err != nil {
			return p.run.objectError(ctx, n, err)
		}
		one.size = m.Stored
		p.run.progress.Offered.Add(m.Stored)
		if o, known := p.basis.origins[n.Checksum]; known && n.Type == ostree.File {
			one.origin = o
		}
	}
	return p.pool.add(ctx, one)
}

// upload sends packs that are ready, and packs other objects in archive form until there
// are no more. A larger object goes alone and at once, while the pack waits.
func (p *pipeline) upload(ctx context.Context) error {
	pack := newPack()
	for {
		ready, one, ok := p.pool.take(ctx)
		if !ok {
			break
		}
		if ready != nil {
			if err := p.sendEncoded(ctx, ready); err != nil {
				return err
			}
			continue
		}
		var err error
		if pack, err = p.addPlain(ctx, pack, one.name); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return p.closePack(ctx, pack)
}

// addPlain adds an object to a pack, and returns that or the next one.
func (p *pipeline) addPlain(ctx context.Context, pack *content, name ostree.Name) (*content, error) {
	o, err := p.run.repo.Object(ctx, name)
	if err != nil {
		return pack, p.run.objectError(ctx, name, err)
	}
	if o.Size > wire.MaxPackPayload {
		end := p.links.begin(o.Size)
		err := p.run.sendObject(ctx, o)
		end()
		if err != nil {
			return pack, p.run.explain(ctx, err)
		}
		p.keepSent(name)
		return pack, nil
	}
	if !pack.fits(o, p.plainTarget()) {
		if err := p.closePack(ctx, pack); err != nil {
			return pack, err
		}
		pack = newPack()
	}
	pack.add(o)
	return pack, nil
}

// plainTarget is the size of a pack in archive form. While it is not known how fast the
// link is, and on a slow one, packs are small: smaller ones may be about to be ready.
func (p *pipeline) plainTarget() int64 {
	if p.pool.encoding != Auto {
		return wire.PackTarget
	}
	return p.links.plain()
}

// sendEncoded sends a pack of the second kind.
func (p *pipeline) sendEncoded(ctx context.Context, pack *encoded) error {
	end := p.links.beginPack(int64(len(pack.pack)))
	err := p.run.sendShared(ctx, pack)
	end()
	if err != nil {
		return p.run.explain(ctx, err)
	}
	for _, n := range pack.names {
		p.keepSent(n)
	}
	return nil
}

// closePack sends a pack, unless it is empty.
func (p *pipeline) closePack(ctx context.Context, pack *content) error {
	if len(pack.parts) == 0 {
		return nil
	}
	end := p.links.begin(pack.size)
	err := p.run.sendPack(ctx, pack)
	end()
	if err != nil {
		return p.run.explain(ctx, err)
	}
	for _, part := range pack.parts {
		p.keepSent(part.object.Name)
	}
	return nil
}

// keepSent keeps the first object that was sent. It is never a commitmeta, since
// the server lists those as lacking at all times.
func (p *pipeline) keepSent(n ostree.Name) {
	if n.Type != ostree.CommitMeta && p.sent.Load() == nil {
		first := n
		p.sent.Store(&first)
	}
}

// sendTo sends v to a channel, unless ctx ends before.
func sendTo[T any](ctx context.Context, to chan<- T, v T) error {
	select {
	case to <- v:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
