// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

// maxSteps is how many of the states that it was in a session remembers: a client may have
// it verified again and again.
const maxSteps = 20

// step notes that the record is in its state since a time. Of many, those behind the first
// go.
func (r *record) step(at time.Time) {
	r.Steps = append(slices.Clone(r.Steps), wire.Step{State: string(r.State), At: at.Truncate(time.Second)})
	if more := len(r.Steps) - maxSteps; more > 0 {
		r.Steps = slices.Delete(r.Steps, 1, 1+more)
	}
}
