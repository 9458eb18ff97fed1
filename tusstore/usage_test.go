// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/test/must"
)

// A token that had much of the workers' time is one that had little again after a while,
// which is bounded however much it was; its part of the time never makes it much.
func TestUsage(t *testing.T) {
	now := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	u := newUsage(2)
	u.now = func() time.Time { return now }
	u.add("a", 2*littleTime)
	if u.much("a") || u.much("b") {
		t.Error("little is much")
	}
	u.add("a", time.Hour)
	if !u.much("a") {
		t.Error("an hour is little")
	}
	now = now.Add(littleParts*littleTime - time.Second)
	if !u.much("a") {
		t.Error("it is forgotten at once")
	}
	now = now.Add(time.Second)
	if u.much("a") {
		t.Error("it is not forgotten")
	}
	for range 1000 {
		now = now.Add(littleParts * time.Second)
		u.add("a", 2*time.Second)
	}
	if u.much("a") {
		t.Error("a token's part is much")
	}
}

// Whoever had much of the workers' time leaves all of them to others that had little, and
// they share among themselves; it goes on when they are done.
func TestMuchGivesWay(t *testing.T) {
	const workers = 2
	q := newQueue(workers)
	q.begin(nil)
	q.used.add("hog", time.Hour)
	var hogs []*task
	goOn := make(chan error)
	for i := range workers {
		q.push(nil, "hog", job{"h", fmt.Sprint(i)}, 0)
		hogs = append(hogs, begin(t, q))
	}
	var others []*task
	for i := range workers {
		q.push(nil, "other", job{"o", fmt.Sprint(i)}, 0)
	}
	for i, h := range hogs {
		go func() { goOn <- q.step(h) }()
		others = append(others, begin(t, q))
		if others[i].token != "other" {
			t.Fatalf("the turn is %s's", others[i].token)
		}
	}
	must.OK(t, q.step(others[0])) // before the hog, however many it has
	for _, o := range others {
		q.finish(o, nil)
		must.OK(t, <-goOn)
	}
}
