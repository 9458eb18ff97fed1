// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// What is in flight between the stages: names are small, packs are not, so only
// the number of uploaders bounds those.
const (
	negotiations = 3      // requests under way at once
	firstBatch   = 500    // names in the first request: uploads begin early
	largestBatch = 16_000 // names in later ones; below wire.MaxNames
	lackingQueue = 4096   // names that wait for an uploader
)

// A source calls visit for each object to offer to the server.
type source func(ctx context.Context, visit func(ostree.Name) error) error

// listed is the source of a list.
func listed(names []ostree.Name) source {
	return func(_ context.Context, visit func(ostree.Name) error) error {
		for _, n := range names {
			if err := visit(n); err != nil {
				return err
			}
		}
		return nil
	}
}

// A pump moves the objects of one source to the server.
type pump struct {
	*run
	start   time.Time
	batches chan []ostree.Name
	lacking chan ostree.Name

	sent atomic.Pointer[ostree.Name] // one of those that were sent
}

// pump sends what the server lacks of src and returns the name of one object
// that was sent, nil if none was.
func (r *run) pump(ctx context.Context, src source) (*ostree.Name, error) {
	p := &pump{
		run: r, start: time.Now(),
		batches: make(chan []ostree.Name, negotiations), lacking: make(chan ostree.Name, lackingQueue),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.walk(ctx, src) })
	g.Go(func() error { return p.negotiateAll(ctx) })
	for range r.opt.Jobs {
		g.Go(func() error { return p.upload(ctx) })
	}
	err := g.Wait()
	r.lastByte = time.Now()
	r.result.Seconds.Upload += since(p.start) // rounds add up
	r.progress.Set(Verifying)
	return p.sent.Load(), err
}

// walk gathers names into batches that grow.
func (p *pump) walk(ctx context.Context, src source) error {
	defer close(p.batches)
	size := firstBatch
	batch := make([]ostree.Name, 0, size)
	flush := func() error {
		if err := give(ctx, p.batches, batch); err != nil {
			return err
		}
		size = min(2*size, largestBatch)
		batch = make([]ostree.Name, 0, size)
		return nil
	}
	first := p.result.Rounds == 0 // later rounds walk what was counted
	err := src(ctx, func(n ostree.Name) error {
		if first {
			p.progress.Walked.Add(1)
		}
		if batch = append(batch, n); len(batch) < size {
			return nil
		}
		return flush()
	})
	p.result.Seconds.Walk += since(p.start)
	if err != nil {
		return err
	}
	return flush()
}

// negotiateAll asks about each batch, some at once.
func (p *pump) negotiateAll(ctx context.Context) error {
	defer close(p.lacking)
	g, ctx := errgroup.WithContext(ctx)
	for range negotiations {
		g.Go(func() error { return p.negotiateSome(ctx) })
	}
	err := g.Wait()
	p.result.Seconds.Negotiate += since(p.start)
	p.progress.Listed.Store(err == nil)
	return err
}

func (p *pump) negotiateSome(ctx context.Context) error {
	for batch := range p.batches {
		lacking, err := p.negotiate(ctx, batch)
		if err != nil {
			return err
		}
		for _, n := range lacking {
			if err := give(ctx, p.lacking, n); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// upload packs lacking objects and sends them until there are no more. Larger
// objects go at once, alone, while the pack waits.
func (p *pump) upload(ctx context.Context) error {
	pack := newPack()
	for name := range p.lacking {
		o, err := p.repo.Object(ctx, name)
		if err != nil {
			return p.unreadable(name, err)
		}
		if o.Size > wire.MaxPackPayload {
			if err := p.sendObject(ctx, o); err != nil {
				return p.unreadable(name, err)
			}
			p.note(name)
			continue
		}
		if !pack.fits(o) {
			if err := p.ship(ctx, pack); err != nil {
				return err
			}
			pack = newPack()
		}
		pack.add(o)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return p.ship(ctx, pack)
}

// ship sends a pack, unless it is empty.
func (p *pump) ship(ctx context.Context, pack *content) error {
	if len(pack.parts) == 0 {
		return nil
	}
	name := fmt.Sprintf("%s-%d", p.packPrefix, p.packs.Add(1))
	if err := p.sendPack(ctx, name, pack); err != nil {
		return p.unreadable(ostree.Name{}, err)
	}
	for _, part := range pack.parts {
		p.note(part.object.Name)
	}
	return nil
}

// note remembers an object that was sent; of commitmeta the server always wants
// another.
func (p *pump) note(n ostree.Name) {
	if n.Type != ostree.CommitMeta && p.sent.Load() == nil {
		first := n
		p.sent.Store(&first)
	}
}

// unreadable explains an object that the build repository cannot give.
func (r *run) unreadable(name ostree.Name, err error) error {
	var bad *ostree.BadObjectError
	switch {
	case errors.As(err, &bad):
		return r.damaged(bad.Object, bad.Reason)
	case isAbsent(err):
		return &Error{Exit: ExitFailed, Err: err, HintText: r.prunedHint()}
	case name != (ostree.Name{}) && status(err) == 0 && !isNetwork(err):
		return fmt.Errorf("object %s of the build repository: %w", name, err)
	}
	return err
}

// isAbsent tells whether err, unless it was explained already, says that
// something is not on the disk: the error names what and where.
func isAbsent(err error) bool {
	var known *Error
	return errors.Is(err, fs.ErrNotExist) && !errors.As(err, &known)
}

// prunedHint is the next step when an object is gone that a commit names.
func (r *run) prunedHint() string {
	again := r.resumeCommand()
	if again == "" {
		again = "push again"
	}
	return "the build repository seems to have been pruned or changed during the push, or was not whole before; " + r.checkHint() +
		"; commit or pull again what it lacks, then: " + again
}

// checkHint is the next step when the build repository is at fault.
func (r *run) checkHint() string {
	return "check it with: ostree fsck --repo=" + quoted(r.opt.Repo)
}

// negotiate asks which of names the server lacks, commitmeta included.
func (r *run) negotiate(ctx context.Context, names []ostree.Name) (lacking []ostree.Name, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	if lacking, err = r.ask(ctx, "ask for missing objects", names); err != nil {
		return nil, err
	}
	r.progress.Negotiated.Add(int64(len(names)))
	r.progress.Lacking.Add(int64(len(lacking)))
	return lacking, nil
}

// ask has the server tell which of names it lacks, in smaller requests where a
// proxy takes none so large.
func (r *run) ask(ctx context.Context, what string, names []ostree.Name) (lacking []ostree.Name, err error) {
	err = r.patience.call(ctx, what, func() (err error) {
		lacking, err = r.client.Negotiate(ctx, r.result.Session.ID, names)
		return err
	})
	if status(err) != http.StatusRequestEntityTooLarge || code(err) == wire.TooLarge || len(names) <= firstBatch {
		return lacking, err
	}
	half := len(names) / 2
	if lacking, err = r.ask(ctx, what, names[:half]); err != nil {
		return nil, err
	}
	rest, err := r.ask(ctx, what, names[half:])
	return append(lacking, rest...), err
}

// recheck asks once more for what src has: what is lacking now was rejected.
// Only one object that was sent is named if the server lacks nothing, since
// everything waits for the answer.
func (r *run) recheck(ctx context.Context, src source, sent *ostree.Name) (rejected []ostree.Name, err error) {
	start := time.Now()
	defer func() { r.result.Seconds.Check += since(start) }()
	if sent == nil {
		return nil, nil
	}
	if all, err := r.allArrived(ctx, *sent); all || err != nil {
		return nil, err
	}
	var batch []ostree.Name
	flush := func() error {
		lacking, err := r.ask(ctx, "check what arrived", batch)
		rejected, batch = append(rejected, lacking...), batch[:0]
		return err
	}
	err = src(ctx, func(n ostree.Name) error {
		if n.Type == ostree.CommitMeta {
			return nil // always lacking
		}
		if batch = append(batch, n); len(batch) < largestBatch {
			return nil
		}
		return flush()
	})
	if err == nil && len(batch) > 0 {
		err = flush()
	}
	return rejected, err
}

// allArrived tells whether the server counts nothing as missing or rejected,
// once it has ingested what arrived; sent is any object that was sent.
func (r *run) allArrived(ctx context.Context, sent ostree.Name) (bool, error) {
	if _, err := r.ask(ctx, "wait for what arrived", []ostree.Name{sent}); err != nil {
		return false, err
	}
	if err := r.look(ctx); err != nil {
		return false, err
	}
	counts := r.result.Session.Objects
	return counts.Known > 0 && counts.Missing == 0 && counts.Rejected == 0, nil
}

func give[T any](ctx context.Context, to chan<- T, v T) error {
	select {
	case to <- v:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
