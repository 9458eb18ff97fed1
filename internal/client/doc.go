// SPDX-License-Identifier: AGPL-3.0-or-later

// Package client speaks the API of one server: it sends requests, uploads
// bodies, and says what an answer means.
//
//   - A method of Client sends its request once. Retrier and Uploader alone
//     repeat requests, and KindOf alone says whether that can help.
//   - Every request goes through transport.go, which alone knows the token and
//     sends it to the address that the user gave and nowhere else.
//   - A request ends if hardly a byte moves on its connection for too long.
//   - Traffic counts what the server acknowledged, never what was written.
//
// An error of a call is an answer that is not a success (Status and Code read
// it), a failure of the network, or wraps ErrBadAnswer. KindOf tells what it means
// for the next step; the exit code of a process is decided by those who import
// this package.
//
// Sizes and offsets are bytes. Client, Retrier, Uploader and Traffic may be used
// concurrently.
package client
