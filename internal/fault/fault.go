// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build !faults

// Package fault names the points at which a crash test stops the process or
// lets a call fail: everything that changes what a restart finds, and every
// request of a client.
//
// Only a build with the tag faults knows how to do that (inject.go); in any
// other, a point is the call and nothing else.
package fault

// Point calls do and returns its error.
func Point(_ string, do func() error) error { return do() }
