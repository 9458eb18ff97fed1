// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// EachFolder has so many workers share the names of the folders of objects/, each in a
// goroutine of its own. The first error ends all.
func EachFolder(ctx context.Context, workers int, work func(ctx context.Context, folders <-chan string) error) error {
	g, ctx := errgroup.WithContext(ctx)
	folders := make(chan string)
	g.Go(func() error {
		defer close(folders)
		for i := range Folders {
			select {
			case folders <- fmt.Sprintf("%02x", i):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range workers {
		g.Go(func() error { return work(ctx, folders) })
	}
	return g.Wait()
}
