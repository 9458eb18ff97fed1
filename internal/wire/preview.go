// SPDX-License-Identifier: AGPL-3.0-or-later

package wire

// PreviewPath is where a held session can be looked at, below the server's address. Whoever
// knows the key needs no token.
func PreviewPath(session, key string) string { return "preview/" + session + "/" + key + "/" }
