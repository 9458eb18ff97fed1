// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"net/http"
	"slices"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
)

// fetchInfo asks the server what it takes.
func (r *run) fetchInfo(ctx context.Context) error {
	err := r.retrier.Do(ctx, "ask for the server's limits", func() (err error) {
		r.info, err = r.client.Info(ctx)
		return err
	})
	if client.Status(err) == http.StatusNotFound {
		return nil // it refuses what it does not take when that arrives
	}
	if err == nil && r.info.Limits.MaxMetadataSize == 0 {
		r.info.Limits.MaxMetadataSize = ostree.CommonMetadata
	}
	return err
}

// checkToken refuses what the token may not do, with the server's words. A server
// that does not tell decides when the session is opened.
func (r *run) checkToken(refs ...string) error {
	may := r.info.Token
	if may == nil {
		return nil
	}
	t := token.Token{Name: may.Name, Scopes: may.Scopes, Refs: may.Refs}
	err := t.CheckPush(r.opt.Force, r.opt.Hold, func(yield func(string) bool) {
		for _, ref := range refs {
			if !yield(ref) {
				return
			}
		}
	})
	if err == nil {
		return nil
	}
	e := &Error{Exit: ExitRefused, Code: wire.Forbidden, Err: err}
	if denied, ok := err.(*token.Denied); ok {
		e.HintText = denied.Next
	}
	return e
}

// checkOpen asks the server whether it would open the sessions of this push: it
// knows refs that this token does not see.
func (r *run) checkOpen(ctx context.Context) error {
	if r.info.Token == nil {
		return nil // a server of an earlier version
	}
	for moves := r.refs; len(moves) > 0; {
		part := moves[:fitting(moves, r.info.Limits.MaxRefs, r.opt.mostBody())]
		moves = moves[len(part):]
		open, err := r.open(part)
		if err != nil {
			return err
		}
		err = r.retrier.Do(ctx, "open a session", func() error { return r.client.CheckOpen(ctx, open) })
		if err != nil {
			return err
		}
	}
	return nil
}

// lacking asks which of names the server lacks, without a session. known is false
// for a server of an earlier version, which cannot tell.
func (r *run) lacking(ctx context.Context, names []ostree.Name) (lacking []ostree.Name, known bool, err error) {
	if r.info.Token == nil {
		return nil, false, nil
	}
	for batch := range slices.Chunk(names, r.opt.mostNames()) {
		var some []ostree.Name
		err := r.retrier.Do(ctx, "ask for missing objects", func() (err error) {
			some, err = r.client.Lacking(ctx, batch)
			return err
		})
		if err != nil {
			return nil, true, err
		}
		lacking = append(lacking, some...)
	}
	return lacking, true, nil
}
