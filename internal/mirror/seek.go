// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// Seek asks the bucket for objects that the set has, and returns those that are not there
// any more, which it takes out of the set. It asks for each, or lists the whole bucket
// where that takes fewer requests.
func (m *Mirror) Seek(ctx context.Context, list []ostree.Name) (gone []ostree.Name, err error) {
	count, err := m.names.count()
	if err != nil || len(list) == 0 {
		return nil, err
	}
	if len(list) <= m.requestsToList(count) {
		gone, err = m.seekEach(ctx, list)
	} else {
		gone, err = m.seekListed(ctx, list)
	}
	if err != nil {
		return nil, err
	}
	return gone, m.Forget(gone...)
}

// perPage is how many objects one request lists.
const perPage = 1000

// requestsToList is how many requests list so many objects.
func (m *Mirror) requestsToList(objects int) int {
	pages := objects/perPage + 1
	if objects > m.few {
		pages += ostree.Folders + m.few/perPage
	}
	return pages
}

// seekEach asks for each object.
func (m *Mirror) seekEach(ctx context.Context, list []ostree.Name) (gone []ostree.Name, err error) {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(Parallel)
	for _, n := range list {
		g.Go(func() error {
			e, err := m.Bucket.Head(ctx, Key(n))
			if errors.Is(err, fs.ErrNotExist) || err == nil && torn(n, e) {
				mu.Lock()
				defer mu.Unlock()
				gone = append(gone, n)
				return nil
			}
			return err
		})
	}
	return gone, g.Wait()
}

// torn tells whether an object is empty that cannot be.
func torn(n ostree.Name, e bucket.Entry) bool { return e.Size == 0 && n.Type != ostree.CommitMeta }

// seekListed looks for the objects in a list of all.
func (m *Mirror) seekListed(ctx context.Context, list []ostree.Name) (gone []ostree.Name, err error) {
	var mu sync.Mutex
	sought := make(map[ostree.Name]struct{}, len(list))
	for _, n := range list {
		sought[n] = struct{}{}
	}
	err = m.List(ctx, func(n ostree.Name, e bucket.Entry) error {
		if torn(n, e) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		delete(sought, n)
		return nil
	})
	for n := range sought {
		gone = append(gone, n)
	}
	return gone, err
}

// errMany ends a list that is better made in parts.
var errMany = errors.New("there are many")

// List visits the objects of the bucket, by several goroutines if they are many: then some
// twice.
func (m *Mirror) List(ctx context.Context, visit func(ostree.Name, bucket.Entry) error) error {
	seen := 0
	one := func(e bucket.Entry) error {
		if n, is := nameOfKey(e.Key); is {
			return visit(n, e)
		}
		return nil
	}
	err := m.Bucket.List(ctx, "objects/", func(e bucket.Entry) error {
		if seen++; seen > m.few {
			return errMany
		}
		return one(e)
	})
	if !errors.Is(err, errMany) {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(Parallel)
	for i := range ostree.Folders {
		g.Go(func() error { return m.Bucket.List(ctx, fmt.Sprintf("objects/%02x/", i), one) })
	}
	return g.Wait()
}

// relist makes the set anew of what the bucket has. What is written meanwhile is in it.
func (m *Mirror) relist(ctx context.Context) (objects int, err error) {
	if err := m.names.setListed(false); err != nil {
		return 0, err
	}
	b := batch{add: m.names.add}
	err = m.List(ctx, func(n ostree.Name, e bucket.Entry) error {
		if torn(n, e) {
			return nil
		}
		return b.note(n)
	})
	if err == nil {
		err = b.flush()
	}
	if err == nil {
		err = m.names.setListed(true)
	}
	return b.all, err
}

// batch adds names many at a time.
type batch struct {
	add  func(...ostree.Name) error
	mu   sync.Mutex
	list []ostree.Name
	all  int
}

func (b *batch) note(n ostree.Name) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all++
	if b.list = append(b.list, n); len(b.list) < mostAtOnce {
		return nil
	}
	return b.empty()
}

func (b *batch) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.empty()
}

func (b *batch) empty() error {
	err := b.add(b.list...)
	b.list = b.list[:0]
	return err
}

// Compare tells what the set has and the bucket does not, and how many objects the bucket
// has that the set lacks. From then on the set is what the bucket has.
func (m *Mirror) Compare(ctx context.Context) (gone []ostree.Name, unknown int, err error) {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(Parallel / 4) // each holds the names of a folder
	for i := range ostree.Folders {
		g.Go(func() error {
			lost, found, err := m.compareFolder(ctx, byte(i))
			mu.Lock()
			defer mu.Unlock()
			gone, unknown = append(gone, lost...), unknown+len(found)
			return errors.Join(err, m.names.add(found...), m.Forget(lost...))
		})
	}
	return gone, unknown, g.Wait()
}

func (m *Mirror) compareFolder(ctx context.Context, first byte) (lost, found []ostree.Name, err error) {
	there := make(map[ostree.Name]bool)
	err = m.Bucket.List(ctx, fmt.Sprintf("objects/%02x/", first), func(e bucket.Entry) error {
		n, is := nameOfKey(e.Key)
		if !is || torn(n, e) {
			return nil
		}
		there[n] = true
		known, err := m.Has(n)
		if !known {
			found = append(found, n)
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	err = m.names.each(first, func(n ostree.Name) error {
		if !there[n] {
			lost = append(lost, n)
		}
		return nil
	})
	return lost, found, err
}
