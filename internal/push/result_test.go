// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"testing"
)

// How much there is in all is known of what was begun and estimated of the rest.
func TestTotalBytes(t *testing.T) {
	var p Progress
	if p.TotalBytes() != 0 || p.Stage() != Walking {
		t.Errorf("%d in all while %s", p.TotalBytes(), p.Stage())
	}
	p.begin(1, 1000)
	p.Traffic.Acknowledged.Add(400)
	p.Lacking.Add(3)
	p.Listed.Store(true)
	if p.DoneBytes() != 400 || p.TotalBytes() != 3*1000 || p.Stage() != Uploading {
		t.Errorf("%d of %d while %s", p.DoneBytes(), p.TotalBytes(), p.Stage())
	}
}
