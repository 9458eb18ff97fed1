// SPDX-License-Identifier: AGPL-3.0-or-later

// Package crash tests what is left when the program is killed, loses power, stops,
// or its system calls fail, and how the next start goes on. It holds tests alone.
//
// `go test` runs a sample of the cases; with CRASH=full, as in `make crash`, it runs
// all. CRASH_SEED repeats what a run drew at random. OSTREE_UPLOAD names another
// program to be tested, as in test/system; faults at points need one that is built
// from here, always.
package crash
