// SPDX-License-Identifier: AGPL-3.0-or-later

package wire

import (
	"crypto/rand"
	"encoding/hex"
	"regexp"
)

var (
	sessionID = regexp.MustCompile(`^[a-z2-7]{16}$`)
	packName  = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
	requestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

// IsSessionID tells whether s has the form of a session's ID.
func IsSessionID(s string) bool { return sessionID.MatchString(s) }

// IsPackName tells whether s may name a pack. An object name never does: it
// holds a dot.
func IsPackName(s string) bool { return packName.MatchString(s) }

// IsRequestID tells whether the server takes s for the ID of a request.
func IsRequestID(s string) bool { return requestID.MatchString(s) }

// NewRequestID gives 64 random bits in hex, which no session's ID looks like.
func NewRequestID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
