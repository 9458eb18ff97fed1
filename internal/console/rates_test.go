// SPDX-License-Identifier: AGPL-3.0-or-later

package console

import (
	"fmt"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

// The rate is that of the last looks, and tells nothing before there are two.
func TestRates(t *testing.T) {
	rates, now := newRates(), time.Now()
	s := &wire.Session{ID: "a", State: wire.Open, Objects: wire.Objects{Known: 1000, Missing: 1000}}
	if got := rates.of("", s, now); got != (speed{}) {
		t.Errorf("at first it is %v", got)
	}
	for i := range 100 {
		s.Bytes.Received += 1000
		s.Objects.Missing -= 5
		got := rates.of("", s, now.Add(time.Duration(i+1)*time.Second))
		if got.Bytes != 1000 || got.Left != time.Duration(s.Objects.Missing)*time.Second/5 {
			t.Fatalf("after %d s it is %v, with %d objects missing", i+1, got, s.Objects.Missing)
		}
	}
	if n := len(rates.looks["/a"]); n > 21 {
		t.Errorf("%d looks are kept", n)
	}
	later := now.Add(time.Hour)
	for i := range 10 {
		rates.of("", &wire.Session{ID: fmt.Sprint("b", i), State: wire.Open}, later)
	}
	if len(rates.looks) != 10 {
		t.Errorf("%d sessions are kept", len(rates.looks))
	}
	s.State = wire.Published
	if got := rates.of("", s, later); got != (speed{}) || len(rates.looks) != 10 {
		t.Errorf("one that has ended has %v", got)
	}
}

// The plot has a point for each interval, the last one at the right.
func TestPlot(t *testing.T) {
	until := time.Now()
	p := plotOf(wire.Throughput{Every: 10, Until: until, Bytes: []int64{0, 1000, 500}})
	if p.Points != "357,60 358,0 359,30 " || p.Most != 100 || p.Now != 50 || !p.Since.Equal(until.Add(-30*time.Second)) {
		t.Errorf("plot is %+v", p)
	}
	if p := plotOf(wire.Throughput{Every: 10, Bytes: []int64{0, 0}}); p.Points != "358,60 359,60 " {
		t.Errorf("of nothing it is %+v", p)
	}
	full := make([]int64, 360)
	if p := plotOf(wire.Throughput{Every: 10, Bytes: full}); p.Points[:5] != "0,60 " {
		t.Errorf("of an hour it begins at %s", p.Points[:5])
	}
}
