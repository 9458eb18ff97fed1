// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"testing"
	"time"
)

// Without a terminal there is a line now and then, and none after the end.
func TestProgressLines(t *testing.T) {
	out := make(lineWriter)
	stop := lines(out, func() string { return "so far" }, time.Millisecond)
	for range 3 {
		if line := <-out; line != "so far\n" {
			t.Errorf("it says %q", line)
		}
	}
	go func() {
		for range out { // one may be on its way
		}
	}()
	stop()
	close(out) // a line after this would panic
}

type lineWriter chan string

func (w lineWriter) Write(b []byte) (int, error) {
	w <- string(b)
	return len(b), nil
}
