// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// What is left is known of what was begun and estimated of the rest.
func TestLeftBytes(t *testing.T) {
	var p Progress
	if p.LeftBytes() != -1 || p.Stage() != Walking {
		t.Errorf("%d left while %s", p.LeftBytes(), p.Stage())
	}
	p.begin(newSingle(&ostree.Object{Size: 1000}))
	p.Traffic.Acknowledged.Add(400)
	p.Lacking.Add(3)
	p.Listed.Store(true)
	if left := p.LeftBytes(); left != 600+2*1000 || p.Stage() != Uploading {
		t.Errorf("%d left while %s", left, p.Stage())
	}
}
