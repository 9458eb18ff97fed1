// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// A mark is an object in the bucket that says that a publish is under way: who removes
// objects waits for its end (mirror.Lease). Who writes the summary reads in it which refs
// belong together.
type mark struct {
	Began time.Time  `json:"began"`
	Refs  []wire.Ref `json:"refs,omitempty"` // if they are several

	session string // of which it is
}

const maxMark = 16 << 20

// unmarkTime bounds the removal of a mark.
const unmarkTime = 30 * time.Second

// lock marks the publish, unless the bucket is being pruned.
func (r *bucketChange) lock(ctx context.Context) (unlock func() error, err error) {
	m := mark{Began: time.Now().UTC()}
	if len(r.session.Refs) > 1 {
		m.Refs = r.session.Refs
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	key := mirror.MarksPrefix + r.session.ID
	r.marked = time.Now()
	err = fault.Point("mark a publish in the bucket", func() error {
		_, err := r.Bucket.Put(ctx, key, b)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := r.CheckLease(ctx); err != nil {
		r.unlessHalf(ctx, key)
		return nil, err
	}
	return func() error {
		r.unlessHalf(ctx, key)
		return nil
	}, nil
}

// unlessHalf removes the mark, unless some of the refs may have moved and not all: until
// they have, or are back, a summary is not to show them, and no object may go.
func (r *bucketChange) unlessHalf(ctx context.Context, key string) {
	if !r.half {
		r.unmark(ctx, key)
	}
}

// unmark removes a mark. One that stays keeps objects from being removed for a while.
func (b *inBucket) unmark(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unmarkTime)
	defer cancel()
	err := fault.Point("unmark a publish in the bucket", func() error { return b.Bucket.Delete(ctx, key, "") })
	if err != nil {
		b.cfg.Log.Warn("the mark of a publish stays in the bucket until the next start", "object", key, "err", err)
	}
}

// dropMarks removes the marks that an earlier process left of sessions which are not
// publishing any more.
func (b *inBucket) dropMarks(log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), unmarkTime)
	defer cancel()
	var left []string
	err := b.Bucket.List(ctx, mirror.MarksPrefix, func(e bucket.Entry) error {
		s, err := b.cfg.Journal.Head(strings.TrimPrefix(e.Key, mirror.MarksPrefix))
		if err == nil && s.State != journal.Publishing {
			left = append(left, e.Key)
		}
		if errors.Is(err, journal.ErrNotFound) { // of another server
			return nil
		}
		return err
	})
	if err != nil && (bucket.Temporary(err) || errors.Is(err, context.DeadlineExceeded)) {
		log.Warn("cannot look for what an earlier process left in the bucket", "err", err)
		return nil
	}
	for _, key := range left {
		b.unmark(ctx, key)
	}
	return err
}

// marks reads the marks of publishes that move several refs, but for one's own.
func (b *inBucket) marks(ctx context.Context, own string) (list []mark, err error) {
	keys, err := b.Publishing(ctx)
	for _, key := range keys {
		if key == mirror.MarksPrefix+own {
			continue
		}
		text, _, getErr := b.Bucket.Get(ctx, key, maxMark)
		if errors.Is(getErr, fs.ErrNotExist) {
			continue // it is over
		}
		var m mark
		if err = errors.Join(err, getErr); err == nil {
			err = json.Unmarshal(text, &m)
		}
		m.session = strings.TrimPrefix(key, mirror.MarksPrefix)
		list = append(list, m)
	}
	return list, err
}

// leavePassed takes those refs out of a mark that its session has moved and others have moved
// on since: they are not behind its other refs. A mark may be there when its publish is over.
func (b *inBucket) leavePassed(ctx context.Context, m *mark, refs map[string]ostree.Checksum) error {
	if !half(refs, m.Refs) {
		return nil
	}
	passed := make([]bool, len(m.Refs))
	var g errgroup.Group
	g.SetLimit(mirror.Parallel)
	for i, r := range m.Refs {
		is := nameOf(refs, r.Ref)
		if is == r.New {
			continue
		}
		g.Go(func() error {
			now, at, err := b.Ref(ctx, r.Ref)
			passed[i] = now == is && slices.Contains(writers(at), m.session)
			return err
		})
	}
	err := g.Wait()
	var left []wire.Ref
	for i, r := range m.Refs {
		if !passed[i] {
			left = append(left, r)
		}
	}
	m.Refs = left
	return err
}

// together are the refs as a summary is to show them: those of a publish that has moved
// some of its refs so far are where they were before.
func together(refs map[string]ostree.Checksum, marks []mark) error {
	for _, m := range marks {
		if !half(refs, m.Refs) {
			continue
		}
		for _, r := range m.Refs {
			if nameOf(refs, r.Ref) != r.New {
				continue
			}
			if r.Old == "" {
				delete(refs, r.Ref)
				continue
			}
			old, err := ostree.ParseChecksum(r.Old)
			if err != nil {
				return err
			}
			refs[r.Ref] = old
		}
	}
	return nil
}

// half tells whether some refs have moved and others have not.
func half(refs map[string]ostree.Checksum, of []wire.Ref) bool {
	moved, rests := false, false
	for _, r := range of {
		if is := nameOf(refs, r.Ref); r.Old != r.New {
			moved = moved || is == r.New
			rests = rests || is != r.New
		}
	}
	return moved && rests
}

// nameOf is the commit that a ref names, "" if there is no such ref.
func nameOf(refs map[string]ostree.Checksum, ref string) string {
	if c, is := refs[ref]; is {
		return c.String()
	}
	return ""
}
