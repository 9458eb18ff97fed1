// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// A learner adds to the set what other servers publish, so that clients of this one need
// not send it again: a ref that names a commit which the set lacks is one that another
// server moved. It reads the trees that are new; what they name is in the bucket, or a
// publish that relies on it finds that out. What it does not come to is sent again.
type learner struct {
	m      *Mirror
	asked  chan ostree.Checksum
	stop   context.CancelFunc
	runs   sync.WaitGroup
	failed sync.Once // so that the log says it once
}

// mostAsked is how many commits wait to be learnt from.
const mostAsked = 1000

func newLearner(m *Mirror) *learner {
	ctx, stop := context.WithCancel(context.Background())
	l := &learner{m: m, asked: make(chan ostree.Checksum, mostAsked), stop: stop}
	l.runs.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case c := <-l.asked:
				l.learn(ctx, c)
			}
		}
	})
	return l
}

func (l *learner) close() {
	l.stop()
	l.runs.Wait()
}

// ask has the commit learnt that a ref names and that the set may lack. A nil learner
// learns nothing.
func (l *learner) ask(ref string) {
	c, err := ostree.ParseChecksum(strings.TrimSpace(ref))
	if err != nil || l == nil {
		return
	}
	if known, err := l.m.Has(ostree.Name{Checksum: c, Type: ostree.CommitObject}); known || err != nil {
		return
	}
	select {
	case l.asked <- c:
	default:
	}
}

func (l *learner) learn(ctx context.Context, c ostree.Checksum) {
	err := l.walk(ctx, ostree.Name{Checksum: c, Type: ostree.CommitObject})
	if err != nil && ctx.Err() == nil && !errors.Is(err, fs.ErrNotExist) {
		l.failed.Do(func() {
			l.m.log.Warn("cannot read what another server has published, so clients send it again", "commit", c.String(), "err", err)
		})
	}
}

// walk reads what the set lacks below an object, one level after the other.
func (l *learner) walk(ctx context.Context, from ostree.Name) error {
	for level := []ostree.Name{from}; len(level) > 0; {
		var mu sync.Mutex
		var next []ostree.Name
		g, each := errgroup.WithContext(ctx)
		g.SetLimit(Parallel / 4) // it is not urgent
		for _, n := range level {
			g.Go(func() error {
				trees, err := l.read(each, n)
				mu.Lock()
				defer mu.Unlock()
				next = append(next, trees...)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		level = next
	}
	return nil
}

// read reads one object, notes what it names, and returns the trees among that which the
// set lacks.
func (l *learner) read(ctx context.Context, n ostree.Name) (trees []ostree.Name, err error) {
	b, err := l.m.read(ctx, n)
	if err != nil {
		return nil, err
	}
	var leaves []ostree.Name
	err = ostree.Children(n, b, func(child ostree.Name) error {
		known, err := l.m.Has(child)
		switch {
		case known || err != nil:
			return err
		case child.Type == ostree.DirTree:
			trees = append(trees, child)
		default:
			leaves = append(leaves, child)
		}
		return nil
	})
	return trees, errors.Join(err, l.m.names.add(leaves...))
}
