// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/test/must"
)

// One token has one costly answer gathered at a time, another is not held up by it,
// and who gives up while waiting is told why.
func TestTurns(t *testing.T) {
	var all turns
	ask := func(ctx context.Context, name string) *request {
		return &request{Request: httptest.NewRequestWithContext(ctx, "GET", "/", nil), token: &token.Token{Name: name}}
	}
	nothing := func() error { return nil }
	must.OK(t, all.take(ask(t.Context(), "a"), func() error {
		must.OK(t, all.take(ask(t.Context(), "b"), nothing))
		gone, leave := context.WithCancel(t.Context())
		leave()
		if err := all.take(ask(gone, "a"), nothing); !errors.Is(err, context.Canceled) {
			t.Errorf("a second answer at a time: %v", err)
		}
		return nil
	}))
	must.OK(t, all.take(ask(t.Context(), "a"), nothing))
}
