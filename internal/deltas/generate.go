// SPDX-License-Identifier: AGPL-3.0-or-later

package deltas

import (
	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/libostree"
)

// Generate writes a delta into a folder and makes it durable. It takes long and much
// memory, which libostree does not let go when it is told to stop: it is for a process
// of its own. maxBsdiff is in MB, as libostree's max-bsdiff-size.
func Generate(repo string, d Delta, folder string, maxBsdiff uint32) error {
	r, err := libostree.Open(repo)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.GenerateDelta(d.Source(), d.To, folder, maxBsdiff); err != nil {
		return err
	}
	return durable.SyncFS(folder)
}
