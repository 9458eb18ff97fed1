// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// checkMinFree refuses need bytes more for which the repository's own settings leave
// no room: libostree would refuse them too, but only when all have come, or never
// where they are linked. The settings are read anew, as libostree reads them.
func (s *Server) checkMinFree(session string, need int64) error {
	repo, err := ostree.OpenRepo(s.cfg.Repo.Path())
	if err != nil {
		return err
	}
	space, err := repo.Space()
	if err != nil {
		return err
	}
	if space.Lacks(need) {
		return wire.Errorf(wire.InsufficientStorage, "uploads will take %d bytes more, and the repository is to leave %d free (%s), but only %d are free on its disk", need, space.MinFree, space.Setting, space.Free).
			WithHint("free some on the server, or change the setting in the repository's config, then resume session %s", session)
	}
	return nil
}
