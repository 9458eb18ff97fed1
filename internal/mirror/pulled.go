// SPDX-License-Identifier: AGPL-3.0-or-later

package mirror

import (
	"cmp"
	"context"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/ostree"
)

func (s strict) Pulled() (map[string][]byte, error)  { return s.m.pulled() }
func (l lenient) Pulled() (map[string][]byte, error) { return l.m.pulled() }

// pulled reads the refs that no server here makes: a repository that was copied into the
// bucket may have them. They are seldom asked for, and not kept.
func (m *Mirror) pulled() (map[string][]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	var mu sync.Mutex
	refs := map[string][]byte{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(Parallel)
	for _, folder := range []string{ostree.Mirrors, ostree.Remotes} {
		err := m.Bucket.List(ctx, "refs/"+folder+"/", func(e bucket.Entry) error {
			g.Go(func() error {
				path := strings.TrimPrefix(e.Key, "refs/")
				text, there, err := m.readRefAt(ctx, e.Key, path)
				if err != nil || there.ETag == "" {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				refs[path] = []byte(text)
				return nil
			})
			return ctx.Err()
		})
		if err != nil {
			return nil, cmp.Or(g.Wait(), err) // a failed reading ends the listing
		}
	}
	return refs, g.Wait()
}
