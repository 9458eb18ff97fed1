// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"fmt"

	"github.com/lirios/ostree-upload/internal/wire"
)

// checkMinFree refuses need bytes more for which the repository's own settings leave
// no room: libostree would refuse them too, but only when all have come, or never
// where they are linked. The settings are read anew, as libostree reads them.
func (s *Server) checkMinFree(session string, need int64) error {
	repo, err := s.cfg.Repo.Reopen()
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

// free is how many bytes uploads may take on the disk, as the info tells, and what
// keeps it from being more. What others have claimed may be theirs or not.
func (s *Server) free(token string) (bytes int64, because string, err error) {
	room, err := s.cfg.Store.Room(token)
	if err != nil {
		return 0, "", err
	}
	minFree := int64(s.cfg.Settings().Limits.MinFreeSpace)
	if minFree > 0 && room.Inodes < minInodes {
		return 0, fmt.Sprintf("%d inodes are to stay free", minInodes), nil
	}
	repo, err := s.cfg.Repo.Reopen()
	if err != nil {
		return 0, "", err
	}
	space, err := repo.Space()
	if err != nil {
		return 0, "", err
	}
	bytes, because = room.Bytes-minFree, fmt.Sprintf("%d bytes are to stay free (min-free-space)", minFree)
	if own := space.Free - space.MinFree; space.Setting != "" && own < bytes {
		bytes, because = own, fmt.Sprintf("%d bytes are to stay free (the repository's %s)", space.MinFree, space.Setting)
	}
	return max(0, bytes), because, nil
}
