// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import "testing"

// Requests get smaller where they break off and larger where they arrive, but
// never larger than what a proxy lets through.
func TestPace(t *testing.T) {
	const most = 8 << 20
	p := newPace(most)
	step := func(what string, do func(), want int64) {
		t.Helper()
		if do(); p.next() != want {
			t.Errorf("%s: %d, want %d", what, p.next(), want)
		}
	}
	step("four break off together", func() {
		for range 4 {
			p.dropped(most)
		}
	}, most/2)
	arrive := func(n int) func() {
		return func() {
			for range n {
				p.arrived(p.next())
			}
		}
	}
	step("almost enough arrives", arrive(growAfter-1), most/2)
	step("one breaks off", func() { p.dropped(most / 2) }, most/4)
	step("almost enough arrives again", arrive(growAfter-1), most/4)
	step("the end of an upload arrives", func() { p.arrived(1000) }, most/4)
	step("the last of enough arrives", func() { p.arrived(most/4 - 1000) }, most/2)
	step("as much arrives of larger ones", arrive(growAfter/2), most/2)
	step("enough of them", arrive(growAfter/2), most)
	step("and more", arrive(growAfter), most)
	step("a proxy refuses", func() { p.refused(most) }, most/2)
	step("and again what was under way", func() { p.refused(most) }, most/2)
	step("smaller ones arrive", arrive(growAfter), most/2)
	step("all break off", func() {
		for range 100 {
			p.dropped(p.next())
		}
	}, smallestChunk)
	step("links heal", arrive(7*growAfter), most/2)
	if p.refused(smallestChunk) {
		t.Error("a smaller request than the smallest was allowed")
	}
}
