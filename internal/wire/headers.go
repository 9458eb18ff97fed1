// SPDX-License-Identifier: AGPL-3.0-or-later

package wire

// Headers of requests.
const (
	// TokenHeader holds the token where a proxy has Authorization for itself.
	TokenHeader = "Ostree-Upload-Token"
	// OverrideHeader names the method that a POST stands for, where something on the
	// way lets only GET, HEAD and POST through.
	OverrideHeader = "X-HTTP-Method-Override"
)
