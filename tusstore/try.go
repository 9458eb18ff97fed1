// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/hint"
)

// try tries what the store needs of the file systems under it. What is missing has
// a substitute, or is named now and not once bytes have come.
func (s *Store) try() error {
	objects := filepath.Join(s.staged.path, "objects", "00")
	if err := durable.CanRename(s.uploads, objects); err != nil {
		return hint.Add(fmt.Errorf("no upload can become a staged object: %w", err),
			"uploads/ and staged/ of the state folder have to be on one file system, which their owner can write to")
	}
	if err := durable.CanLinkUnnamed(objects); err != nil {
		s.cfg.Log.Debug("objects are staged under temporary names", "err", err)
		s.staged.noUnnamed = true
	}
	keeps, err := durable.KeepsTime(objects, s.staged.stamp.on(time.Now()))
	if err == nil && !keeps {
		s.cfg.Log.Warn("the file system of the state folder keeps no exact times: every object is read once more when it is published", "state", s.cfg.Dir)
	}
	return err
}
