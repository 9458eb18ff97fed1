// SPDX-License-Identifier: AGPL-3.0-or-later

// Package push is one push: it copies what the refs of a build repository name
// to the server, as far as the server lacks it, and has it published.
//
//   - Objects flow through bounded stages (walk, negotiate, pack, upload); no
//     stage waits for the whole list, and at most Options.Jobs packs exist at once.
//   - All that goes to the server goes through package client, which repeats what
//     fails for the moment; errors.go alone decides how a push ends.
//   - Progress is what the server acknowledged, never what was written.
//
// Sizes and offsets are bytes. Progress may be read while Run works; pushes run
// concurrently if each has a Progress of its own.
package push
