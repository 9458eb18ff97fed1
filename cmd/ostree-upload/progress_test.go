// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lirios/ostree-upload/internal/push"
)

// What a person reads, as a push goes on.
func TestMeter(t *testing.T) { synctest.Test(t, testMeter) }

func testMeter(t *testing.T) {
	p := new(push.Progress)
	m := &meter{progress: p}
	p.Walked.Store(1)
	says(t, m, "walking: 1 object found")
	p.Walked.Store(1234)
	says(t, m, "walking: 1,234 objects found")

	p.Set(push.Uploading)
	p.Lacking.Store(4000)
	p.Begun.Store(1000)
	p.BegunBytes.Store(100e6)
	says(t, m, "uploading: 0 of 4,000 objects or more")
	time.Sleep(10 * time.Second)
	p.Sent.Store(500)
	p.Traffic.Acknowledged.Store(40e6)
	p.Traffic.Retries.Store(1)
	says(t, m, "uploading: 500 of 4,000 objects or more, 40 MB, 4,000 kB/s, 1 retry")
	p.Listed.Store(true)
	says(t, m, "uploading: 500 of 4,000 objects, 40 MB, 4,000 kB/s, 1m30s left, 1 retry")

	for range 2 * window / time.Second { // a link that is down has no rate
		time.Sleep(time.Second)
		m.line()
	}
	p.Traffic.Retries.Store(7)
	says(t, m, "uploading: 500 of 4,000 objects, 40 MB, 7 retries")
	p.Sent.Store(4000)
	p.Set(push.Publishing)
	says(t, m, "publishing: 4,000 objects sent, 40 MB, 7 retries")
}

func says(t *testing.T, m *meter, want string) {
	t.Helper()
	if got := m.line(); got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
}

// Without a terminal there is a line now and then, and none after the end.
func TestProgressLines(t *testing.T) {
	out := make(lineWriter)
	stop := lines(out, &meter{progress: new(push.Progress)}, time.Millisecond)
	for range 3 {
		if line := <-out; line != "walking: 0 objects found\n" {
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
