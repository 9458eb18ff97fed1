// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"context"
	"errors"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// TestPreviewsOfOthers pins that who reads the previews of one token's sessions without
// end holds up that token's alone.
func TestPreviewsOfOthers(t *testing.T) {
	var p previewing
	var leave func()
	for range mostPreviewing {
		var err error
		leave, err = p.enter(t.Context(), "slow")
		must.OK(t, err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.enter(over, "slow"); !errors.Is(err, context.Canceled) {
		t.Errorf("one more than %d of the same token: %v", mostPreviewing, err)
	}
	_, err := p.enter(t.Context(), "other")
	must.OK(t, err)
	leave()
	_, err = p.enter(t.Context(), "slow")
	must.OK(t, err)
}
