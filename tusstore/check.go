// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"context"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// Check tells whether a staged object is there and is what its name says.
func (s *Store) Check(_ context.Context, n ostree.Name) (bool, error) { return s.staged.has(n) }

// Forget makes an upload of an object possible again.
func (s *Store) Forget(session string, n ostree.Name) error {
	return s.cfg.Journal.ForgetUpload(session, n.String())
}
