// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror

import (
	"log/slog"
	"time"
)

// SetMostCached bounds the cache from now on.
func (m *Mirror) SetMostCached(bytes int64) { m.cache.most = bytes }

// SetFew is of how many objects on a list is made in parts.
func (m *Mirror) SetFew(objects int) { m.few = objects }

// EndIn has the lease's owner believe that it lasts that long.
func (l *Lease) EndIn(left time.Duration) { l.written = time.Now().Add(left - leaseTime) }

// OpenNames opens a set of names, and tells whether all objects have been listed.
func OpenNames(path, of string) (listed bool, err error) {
	n, err := openNames(path, of, slog.Default())
	if err != nil {
		return false, err
	}
	return n.listed(), n.close()
}
