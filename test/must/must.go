// SPDX-License-Identifier: AGPL-3.0-or-later

// Package must ends a test when something that the test only needs, and does
// not examine, fails. Its functions belong to the test's own goroutine, as
// testing.TB.FailNow does.
package must

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Patience is how long a test waits for what has to happen. It decides nothing:
// a test that waits so long has failed.
const Patience = 3 * time.Minute

// OK ends the test on an error.
func OK(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Run runs a program and returns what it prints, without the space around it.
func Run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// OSTree is Run for ostree.
func OSTree(t testing.TB, args ...string) string {
	t.Helper()
	for _, arg := range args {
		if ref := strings.TrimPrefix(arg, "--branch="); args[0] != "config" && args[0] != "remote" && likeChecksum.MatchString(ref) {
			t.Fatalf("ostree %s: ostree takes %q as the beginning of a commit's checksum where there is one, so that this fails now and then; name the ref otherwise", strings.Join(args, " "), ref)
		}
	}
	return Run(t, "ostree", args...)
}

// likeChecksum matches what libostree's ostree_repo_resolve_rev looks for among the
// commits' checksums before it looks for a ref.
var likeChecksum = regexp.MustCompile("^[0-9a-f]{1,63}$")

// Wait waits until something is so, and ends the test when its patience is over.
func Wait(t testing.TB, what string, isSo func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !isSo(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v it is still not so that %s", Patience, what)
		}
	}
}
