// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

// What a person reads, as a push goes on.
func TestMeter(t *testing.T) { synctest.Test(t, testMeter) }

func testMeter(t *testing.T) {
	p := new(Progress)
	m := NewMeter(p)
	p.Walked.Store(1)
	says(t, m, "walking: 1 object found")
	p.Walked.Store(1234)
	says(t, m, "walking: 1,234 objects found")

	p.Set(Uploading)
	p.Lacking.Store(4000)
	p.Begun.Store(1000)
	p.BegunBytes.Store(100e6)
	says(t, m, "uploading: 0 bytes of 400 MB or more, 0 of 4,000 objects or more")
	time.Sleep(10 * time.Second)
	p.Sent.Store(500)
	p.Traffic.Acknowledged.Store(40e6)
	p.Traffic.Retries.Store(1)
	says(t, m, "uploading: 40 MB of 400 MB or more, 500 of 4,000 objects or more, 4,000 kB/s, 1 retry")
	p.Listed.Store(true)
	says(t, m, "uploading: 40 MB of 400 MB, 500 of 4,000 objects, 4,000 kB/s, 1m30s left, 1 retry")

	for range 2 * window / time.Second { // a link that is down has no rate
		time.Sleep(time.Second)
		m.Line(0)
	}
	p.Traffic.Retries.Store(7)
	says(t, m, "uploading: 40 MB of 400 MB, 500 of 4,000 objects, 7 retries")
	p.Sent.Store(4000)
	p.Set(Publishing)
	says(t, m, "publishing: 40 MB, 4,000 objects sent, 7 retries")
}

func says(t *testing.T, m *Meter, want string) {
	t.Helper()
	if got := m.Line(0); got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
}

// A push that is resumed counts what the server had before, and bytes count as they
// go out, not only when the server has a whole chunk.
func TestMeterResumed(t *testing.T) {
	p := new(Progress)
	p.resumed(wire.Session{Objects: wire.Objects{Known: 6, Staged: 2}, Bytes: wire.Bytes{Staged: 20e6}})
	p.Lacking.Store(4)
	p.Listed.Store(true)
	p.begin(4, 80e6)
	p.Traffic.Skipped.Store(28e6)
	says(t, NewMeter(p), "uploading: 48 MB of 100 MB, 2 of 6 objects")
}

// Where there is no room, what matters least is left out first: how many bytes of how
// many stays, and the time left longer than the rest. No line is too wide.
func TestMeterWidth(t *testing.T) { synctest.Test(t, testMeterWidth) }

func testMeterWidth(t *testing.T) {
	p := new(Progress)
	p.Lacking.Store(4000)
	p.Listed.Store(true)
	p.begin(4000, 400e6)
	m := NewMeter(p)
	m.Line(0)
	time.Sleep(10 * time.Second)
	p.Traffic.Acknowledged.Store(40e6)
	p.Traffic.Retries.Store(3)
	for width, want := range map[int]string{
		200: "uploading: 40 MB of 400 MB, 0 of 4,000 objects, 4,000 kB/s, 1m30s left, 3 retries",
		80:  "uploading: 40 MB of 400 MB, 0 of 4,000 objects, 4,000 kB/s, 1m30s left",
		40:  "uploading: 40 MB of 400 MB, 1m30s left",
		20:  "uploading: 40 MB of ",
	} {
		if got := m.Line(width); got != want {
			t.Errorf("%d columns: %q, want %q", width, got, want)
		}
	}
	p.Set(Publishing)
	p.noted(wire.Session{Detail: "the repository's lock is held by another process"})
	if got := m.Line(80); got != "publishing: the repository's lock is held by another process, 40 MB" {
		t.Errorf("it says %q", got)
	}
}
