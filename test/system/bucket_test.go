// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/site"
)

// Two servers of one bucket that have one state folder are told apart from two of one
// repository on the disk, since of the others there may be many.
func TestOneStateOfTwo(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	second := f.receive(f.receivers[0], "--wait-lock", "0")
	e := site.Finish(t, second).Must(t, 1)
	for _, words := range []string{"another ostree-upload serves s3://repo/os with the state folder state", "each server of a bucket needs a state folder of its own"} {
		if !strings.Contains(e.Stderr, words) {
			t.Errorf("it does not say %q:\n%s", words, e.Stderr)
		}
	}
}
