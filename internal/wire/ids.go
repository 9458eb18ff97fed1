// SPDX-License-Identifier: AGPL-3.0-or-later

package wire

import "regexp"

var (
	sessionID = regexp.MustCompile(`^[a-z2-7]{16}$`)
	packName  = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
)

// IsSessionID tells whether s has the form of a session's ID.
func IsSessionID(s string) bool { return sessionID.MatchString(s) }

// IsPackName tells whether s may name a pack. An object name never does: it
// holds a dot.
func IsPackName(s string) bool { return packName.MatchString(s) }
