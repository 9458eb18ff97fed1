// SPDX-License-Identifier: AGPL-3.0-or-later

package wire

// Headers of requests.
const (
	// RequestHeader is the ID of a request, in its answer, too. All requests of one
	// push have the same, and the server logs it.
	RequestHeader = "X-Request-ID"
	// TokenHeader holds the token where a proxy has Authorization for itself.
	TokenHeader = "Ostree-Upload-Token" // #nosec G101 -- the header's name
	// OverrideHeader names the method that a POST stands for, where something on the
	// way lets only GET, HEAD and POST through.
	OverrideHeader = "X-HTTP-Method-Override"
)
