// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"testing"

	ts "github.com/lirios/ostree-upload/test/server"
)

// The token comes in Authorization, or in a header of its own, which then alone counts:
// a proxy's login in the other one is not ours.
func TestSentToken(t *testing.T) {
	s := ts.Start(t, "archive")
	c := s.Client("")
	const basic = "Basic dXNlcjpwYXNzd29yZA=="
	for _, tc := range []struct {
		authorization, own string
		status             int
	}{
		{"Bearer " + s.Token, "", 200},
		{"bearer  " + s.Token, "", 200},
		{"", s.Token, 200},
		{"", " " + s.Token + " ", 200},
		{basic, s.Token, 200},
		{"Bearer of-the-proxy", s.Token, 200},
		{"Bearer " + s.Token, s.Token, 200},
		{"Bearer " + s.Token, " ", 200},
		{"", "", 401},
		{basic, "", 401},
		{"Basic " + s.Token, "", 401},
		{s.Token, "", 401},
		{"", "Bearer " + s.Token, 401},
		{"Bearer " + s.Token, "wrong", 401},
		{"Bearer wrong", "", 401},
	} {
		headers := []string{"Authorization", tc.authorization, "Ostree-Upload-Token", tc.own}
		if a := c.Do("GET", "/api/v1/info", nil, headers...); a.Status != tc.status {
			t.Errorf("%q: %d, want %d", headers, a.Status, tc.status)
		}
	}
}
