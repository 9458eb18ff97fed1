// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// negotiateBatch asks which of names the server lacks, commitmeta included, and
// counts them.
func (r *run) negotiateBatch(ctx context.Context, names []ostree.Name) (lacking []ostree.Name, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	if lacking, err = r.negotiate(ctx, "ask for missing objects", names); err != nil {
		return nil, err
	}
	r.progress.Lacking.Add(int64(len(lacking)))
	return lacking, nil
}

// negotiate asks which of names the server lacks, in smaller requests where a
// proxy refuses large ones. What it is asked for is for messages.
func (r *run) negotiate(ctx context.Context, what string, names []ostree.Name) (lacking []ostree.Name, err error) {
	err = r.retrier.Do(ctx, what, func() (err error) {
		lacking, err = r.client.Negotiate(ctx, r.session.ID, names)
		if client.Status(err) >= 500 && r.ingesting(ctx) {
			r.retrier.Progressed()
		}
		return err
	})
	if client.Status(err) != http.StatusRequestEntityTooLarge || client.Code(err) == wire.TooLarge {
		return lacking, err
	}
	if len(names) <= firstBatch {
		return nil, hint.Add(fmt.Errorf("something before the server takes no list of %d object names: %w", len(names), err),
			"no push gets through with less than 64 KiB a request; have the limit raised there, in nginx by client_max_body_size")
	}
	half := len(names) / 2
	if lacking, err = r.negotiate(ctx, what, names[:half]); err != nil {
		return nil, err
	}
	rest, err := r.negotiate(ctx, what, names[half:])
	return append(lacking, rest...), err
}

// ingesting reports whether the server is verifying what arrived. Until that is done
// it answers no question about objects, and a proxy may cut each.
func (r *run) ingesting(ctx context.Context) bool {
	s, err := r.client.Session(ctx, r.session.ID, 0)
	return err == nil && slices.ContainsFunc(s.Uploads, func(u wire.Upload) bool { return u.Offset == u.Size })
}

// recheck asks once more for what src has: what is lacking now was rejected. It
// asks for one object first, and for all only if the server lacks any: nothing
// else can go on meanwhile.
func (r *run) recheck(ctx context.Context, src source, sent *ostree.Name) (rejected []ostree.Name, err error) {
	start := time.Now()
	defer func() { r.seconds.Check += since(start) }()
	if sent == nil {
		return nil, nil
	}
	if all, err := r.allArrived(ctx, *sent); all || err != nil {
		return nil, err
	}
	err = src.inBatches(ctx, r.opt.mostNames(), func(names []ostree.Name) error {
		names = slices.DeleteFunc(names, func(n ostree.Name) bool { return n.Type == ostree.CommitMeta }) // always lacking
		if len(names) == 0 {
			return nil
		}
		lacking, err := r.negotiate(ctx, "check what arrived", names)
		rejected = append(rejected, lacking...)
		return err
	})
	return rejected, err
}

// allArrived tells whether the server counts nothing as missing or rejected,
// once it has ingested what arrived; sent is any object that was sent.
func (r *run) allArrived(ctx context.Context, sent ostree.Name) (bool, error) {
	if _, err := r.negotiate(ctx, "wait for what arrived", []ostree.Name{sent}); err != nil {
		return false, err
	}
	if err := r.refresh(ctx); err != nil {
		return false, err
	}
	counts := r.session.Objects
	return counts.Known > 0 && counts.Missing == 0 && counts.Rejected == 0, nil
}
