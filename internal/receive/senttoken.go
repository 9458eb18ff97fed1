// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"net/http"
	"strings"

	"github.com/lirios/ostree-upload/internal/wire"
)

// sentToken is the token that a request brings, "" for none. Where the header of our
// own is there, a proxy has Authorization for itself, whatever is in it.
func sentToken(h http.Header) string {
	if own := strings.TrimSpace(h.Get(wire.TokenHeader)); own != "" {
		return own
	}
	scheme, bearer, _ := strings.Cut(h.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(bearer)
}
