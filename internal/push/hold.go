// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"errors"
	"slices"

	"github.com/lirios/ostree-upload/internal/wire"
)

// checkHold refuses to push what is to be held to a server that would publish it.
func (r *run) checkHold() error {
	if !r.opt.Hold || slices.Contains(r.info.Features, wire.FeatureHold) {
		return nil
	}
	return &Error{
		Exit: ExitFailed, Code: wire.BadRequest, Err: errors.New("the server is of an earlier version, which cannot hold what is pushed"),
		HintText: "have the server upgraded, then push --hold again",
	}
}
