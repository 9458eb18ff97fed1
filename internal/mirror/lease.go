// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/hint"
)

// Who publishes writes a mark first and then looks for the lease; who removes objects
// writes the lease first and then looks for marks: one of them sees the other.
//
// How old a lease or a mark is, the store's clock tells alone. The owner of a lease counts
// by its own from before it sent the lease to the store, so that for others the lease ends
// later, whatever their clocks say.

// MarksPrefix is where publishes that are under way have their marks, and leaseKey is the
// right to remove objects. No client of the repository reads what is here.
const (
	MarksPrefix = ".ostree-upload/publishing/"
	leaseKey    = ".ostree-upload/prune"
)

// MarkTime is how long a mark counts: a server that is gone for good may have left it.
const MarkTime = 24 * time.Hour

const (
	maxLease   = 4 << 10
	leaseTime  = 5 * time.Minute
	renewAfter = time.Minute

	mostSeconds = 24 * 60 * 60 // of a lease that may be true
)

// ErrPruning says that objects are being removed from the bucket.
var ErrPruning = errors.New("the bucket is being pruned")

// lease is what is written of one.
type lease struct {
	Seconds int64 `json:"seconds"` // that it lasts after it was written
	// Write is another one for each write. Two servers that take an ended lease at the
	// same time would else write the same, and both take it for theirs.
	Write string `json:"write"`
}

// left is how long it still lasts.
func (l *lease) left(age time.Duration) (time.Duration, error) {
	if l.Seconds <= 0 || l.Seconds > mostSeconds {
		return 0, fmt.Errorf("it says that it lasts %d seconds", l.Seconds)
	}
	return time.Duration(l.Seconds)*time.Second - age, nil
}

// A Lease is the right to remove objects, as long as it is renewed.
type Lease struct {
	m       *Mirror
	etag    string
	written time.Time // before the last write of it was sent; zero once it is lost
}

// CheckLease is ErrPruning while somebody removes objects.
func (m *Mirror) CheckLease(ctx context.Context) error {
	_, err := m.lease(ctx)
	return err
}

// lease reads the lease: its ETag if it has ended, "" if there is none.
func (m *Mirror) lease(ctx context.Context) (etag string, err error) {
	text, at, err := m.Bucket.Read(ctx, leaseKey, maxLease)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var l lease
	var left time.Duration
	if err = json.Unmarshal(text, &l); err == nil {
		left, err = l.left(at.Age)
	}
	if err != nil {
		return "", hint.Add(fmt.Errorf("read the lease of a prune, %s/%s: %w", m.Bucket, leaseKey, err), "remove this object if no server prunes the bucket")
	}
	if left > 0 {
		return "", fmt.Errorf("%w: its lease ends in %s unless it is renewed", ErrPruning, left)
	}
	return at.ETag, nil
}

// TakeLease takes the lease. The error is ErrPruning if somebody has it.
func (m *Mirror) TakeLease(ctx context.Context) (*Lease, error) {
	etag, err := m.lease(ctx)
	if err != nil {
		return nil, err
	}
	l := &Lease{m: m, etag: etag}
	return l, l.write(ctx)
}

func (l *Lease) write(ctx context.Context) error {
	began := time.Now()
	var etag string
	text, err := json.Marshal(lease{int64(leaseTime.Seconds()), rand.Text()})
	if err != nil {
		return err
	}
	err = fault.Point("write the lease of a prune", func() (err error) {
		etag, err = l.m.Bucket.Swap(ctx, leaseKey, text, l.etag)
		return err
	})
	if errors.Is(err, bucket.ErrChanged) {
		l.etag, l.written = "", time.Time{} // it is another server's now
		return fmt.Errorf("%w by another server", ErrPruning)
	}
	if err == nil {
		l.etag, l.written = etag, began
	}
	return err
}

// left is how long the lease still lasts for its owner.
func (l *Lease) left() time.Duration { return leaseTime - Since(l.written) }

// Since is how long ago a time of this process was. The monotonic clock stands still while
// a machine sleeps, and the other one may be set back: the one that says more counts.
func Since(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// Renew makes the lease last, if it does not for long enough. After an error nothing may be
// removed any more.
func (l *Lease) Renew(ctx context.Context) error {
	left := l.left()
	if left > leaseTime-renewAfter {
		return nil
	}
	if left <= 0 {
		return errors.New("the lease of the prune has ended: it could not be renewed in time, or another server has it")
	}
	return l.write(ctx)
}

// leaseMargin is how long before the end of a lease nothing is removed any more: what was
// asked for may come to the store a little later, and the clocks of a store's machines may
// differ a little.
const leaseMargin = time.Minute

// While is a context that ends before the lease does as it was written last.
func (l *Lease) While(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, l.left()-leaseMargin)
}

// Release gives the lease back, unless another server has it.
func (l *Lease) Release(ctx context.Context) error {
	if l.etag == "" {
		return nil
	}
	return l.m.Bucket.Delete(ctx, leaseKey, l.etag)
}

// Publishing are the keys of the marks that count.
func (m *Mirror) Publishing(ctx context.Context) (keys []string, err error) {
	err = m.Bucket.List(ctx, MarksPrefix, func(e bucket.Entry) error {
		if e.Age < MarkTime {
			keys = append(keys, e.Key)
		}
		return nil
	})
	return keys, err
}
