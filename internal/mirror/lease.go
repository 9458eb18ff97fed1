// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror

import (
	"context"
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
)

// ErrPruning says that objects are being removed from the bucket.
var ErrPruning = errors.New("the bucket is being pruned")

// lease is what is written of one.
type lease struct {
	Until time.Time `json:"until"`
}

// A Lease is the right to remove objects, as long as it is renewed.
type Lease struct {
	m     *Mirror
	etag  string
	until time.Time
}

// CheckLease is ErrPruning while somebody removes objects.
func (m *Mirror) CheckLease(ctx context.Context) error {
	_, err := m.lease(ctx)
	return err
}

// lease reads the lease: its ETag if it has ended, "" if there is none.
func (m *Mirror) lease(ctx context.Context) (etag string, err error) {
	text, etag, err := m.Bucket.Get(ctx, leaseKey, maxLease)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var l lease
	if err := json.Unmarshal(text, &l); err != nil {
		return "", hint.Add(fmt.Errorf("read the lease of a prune, %s/%s: %w", m.Bucket, leaseKey, err), "remove this object if no server prunes the bucket")
	}
	if time.Now().Before(l.Until) {
		return "", fmt.Errorf("%w, at most until %s", ErrPruning, l.Until.Format(time.RFC3339))
	}
	return etag, nil
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
	until := time.Now().Add(leaseTime).UTC()
	var etag string
	text, err := json.Marshal(lease{until})
	if err != nil {
		return err
	}
	err = fault.Point("write the lease of a prune", func() (err error) {
		etag, err = l.m.Bucket.Swap(ctx, leaseKey, text, l.etag)
		return err
	})
	if errors.Is(err, bucket.ErrChanged) {
		l.etag, l.until = "", time.Time{} // it is another server's now
		return fmt.Errorf("%w by another server", ErrPruning)
	}
	if err == nil {
		l.etag, l.until = etag, until
	}
	return err
}

// Renew makes the lease last, if it does not for long enough. After an error nothing may be
// removed any more.
func (l *Lease) Renew(ctx context.Context) error {
	if time.Until(l.until) > leaseTime-renewAfter {
		return nil
	}
	if time.Now().After(l.until) {
		return errors.New("the lease of the prune has ended: it could not be renewed in time, or another server has it")
	}
	return l.write(ctx)
}

// leaseMargin is how long before the end of a lease nothing is removed any more: what was
// asked for may come to the store a little later.
const leaseMargin = time.Minute

// While is a context that ends before the lease does as it was written last.
func (l *Lease) While(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadline(ctx, l.until.Add(-leaseMargin))
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
		if time.Since(e.Written) < MarkTime {
			keys = append(keys, e.Key)
		}
		return nil
	})
	return keys, err
}
