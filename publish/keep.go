// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"time"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/libostree"
)

// How often the summary is looked at, and at most how long after a failure.
const (
	keepEvery  = 5 * time.Second
	keepAtMost = 10 * time.Minute
)

// KeepSummary sees to it, until ctx ends, that the summary bears the server's signature,
// although other programs write it, too: `ostree summary -u` takes the signature away. An
// error means that the disk cannot be trusted.
func (p *Publisher) KeepSummary(ctx context.Context) error {
	for wait := keepEvery; ; {
		switch err := p.repairSummary(ctx); {
		case errors.Is(err, durable.ErrNotSynced):
			return err
		case err != nil && ctx.Err() == nil:
			p.cfg.Log.Error("the summary lacks the server's signature; signing will be tried again", "err", err, "after", wait)
			wait = min(2*wait, keepAtMost)
		default:
			wait = keepEvery
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func (p *Publisher) repairSummary(ctx context.Context) error {
	wrong, err := p.production.wrongSummary(ctx)
	if err != nil || !wrong {
		return err
	}
	if err := p.production.writeSummary(ctx); err != nil {
		return err
	}
	p.cfg.Log.Info("the summary lacked the server's signature and was signed")
	return nil
}

func (d *disk) writeSummary(ctx context.Context) error {
	repo, err := libostree.Open(d.path)
	if err != nil {
		return err
	}
	defer repo.Close()
	if _, err := d.summary.write(ctx, repo); err != nil {
		return err
	}
	return durable.SyncFS(d.path)
}

func (d *disk) wrongSummary(ctx context.Context) (bool, error) { return d.summary.wrong(ctx) }
