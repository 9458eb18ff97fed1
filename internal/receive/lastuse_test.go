// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"strings"
	"testing"

	ts "github.com/lirios/ostree-upload/test/server"
)

// TestLastUse pins what is a use of a token: each request that its holder makes,
// whatever becomes of it, and no other.
func TestLastUse(t *testing.T) {
	s := ts.Start(t, "archive")
	s.Client("no token of anybody").Want(401, "GET", "/api/v1/refs", nil)
	s.Client(s.Admin).Want(200, "GET", "/healthz", nil)
	s.Client(s.Other).Want(403, "POST", "/api/v1/sessions", []byte(`{"refs": [{"ref": "x", "new": "`+strings.Repeat("1", 64)+`"}]}`))
	s.Client(s.Token).Want(404, "GET", "/nowhere", nil)
	used := s.LastUse.All()
	if len(used) != 2 || used["other"].IsZero() || used["ci"].IsZero() {
		t.Errorf("used: %v", used)
	}
}
