// SPDX-License-Identifier: AGPL-3.0-or-later

// Package push is the client: it copies what the refs of a build repository
// name to the server, as far as the server lacks it, and has it published.
//
//   - Objects flow through bounded stages (walk, negotiate, pack, upload); no
//     stage waits for the whole list, and at most Options.Jobs packs exist at once.
//   - Every request may be repeated: retry.go alone decides whether and when.
//   - Every request goes through transport.go, which alone knows the token and
//     sends it to the address that the user gave and nowhere else.
//   - Progress is what the server acknowledged, never what was written.
//
// Sizes and offsets are bytes. A Client may be used concurrently; Run may not
// be called twice with the same Options.Progress.
package push
