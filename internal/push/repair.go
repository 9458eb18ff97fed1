// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"errors"
	"slices"

	"github.com/lirios/ostree-upload/internal/wire"
)

// repairs tells whether this push is a repair: it was asked for, or goes on with a
// session that was opened for one.
func (r *run) repairs() bool { return r.opt.Repair || r.session.Repair }

// checkRepair refuses a repair that the server cannot do.
func (r *run) checkRepair() error {
	if !r.opt.Repair || slices.Contains(r.info.Features, wire.FeatureRepair) {
		return nil
	}
	return &Error{
		Exit: ExitFailed, Code: wire.BadRequest, Err: errors.New("the server is of an earlier version, which cannot repair its repository"),
		HintText: "have the server upgraded, then push --repair again",
	}
}

// countRepaired counts what the published session took of the objects that it had to
// verify. Detached metadata is taken each time.
func (r *run) countRepaired() { r.absent += r.session.Objects.Staged - r.metas }

// countRepair allows the round that sends again what the server found damaged or gone.
func (r *run) countRepair(ctx context.Context, s wire.Session) error {
	if r.rounds == 0 {
		r.opt.Log.Warn("objects of the server's repository are damaged or gone, and are sent again", "session", s.ID, "objects", s.Objects.Missing)
	}
	return r.countRound(ctx, problemNames(s.Problems), "lacked or rejected")
}
