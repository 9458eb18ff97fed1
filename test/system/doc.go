// SPDX-License-Identifier: AGPL-3.0-or-later

// Package system tests how the running program behaves: what its commands say
// (testdata/script), what arrives in repositories of each mode, over bad links,
// beside others that push, pull and prune. It holds tests alone.
//
// OSTREE_UPLOAD=/usr/bin/ostree-upload tests that program, not one built from
// here; give -count=1 with it, since `go test` does not notice when that changes.
package system
