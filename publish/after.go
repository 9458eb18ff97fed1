// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"fmt"

	"github.com/lirios/ostree-upload/journal"
)

// What is to follow a publish is a work: it cannot undo the move of the refs, nor
// hold it up. A work is tried at once; one that fails is recorded in the journal
// together with "published", and repeated until it is done, by this process or
// by the next one.

// The kinds of works, as the journal has them.
const workSummary = "summary"

// follow tries the works that follow this publish, while it has the lock, and
// notes those that are to be repeated.
func (a *apply) follow(ctx context.Context) {
	why, err := a.summary.write(ctx, a.target.dst)
	if err != nil {
		a.due = append(a.due, workSummary)
		a.warn("the summary could not be written, which will be tried again: %v", err)
	}
	if why != "" {
		a.warn("the repository's summary was left as it is, and clients that read it do not see this push until it is updated: %s", why)
	}
}

// doWorks does the works that are due, and tells whether one is to be tried again.
// An error means that the journal cannot be used or the disk cannot be trusted.
func (p *Publisher) doWorks(ctx context.Context) (retry bool, err error) {
	due, err := p.cfg.Journal.Works()
	if err != nil {
		return false, err
	}
	for _, w := range due {
		failed := p.do(ctx, w)
		if failed == nil {
			p.cfg.Log.Info("done what was to follow a publish", "work", w.Kind)
			err = p.cfg.Journal.WorkDone(w)
		} else {
			p.cfg.Log.Warn("what is to follow a publish failed; it will be tried again", "work", w.Kind, "err", failed)
			retry, err = true, p.cfg.Journal.WorkFailed(w, failed)
		}
		if err != nil {
			return retry, err
		}
	}
	return retry, nil
}

// do does one work and makes it durable.
func (p *Publisher) do(ctx context.Context, w journal.Work) error {
	switch w.Kind {
	case workSummary:
		return p.writeSummary(ctx)
	}
	return fmt.Errorf("this build knows no work %q", w.Kind)
}
