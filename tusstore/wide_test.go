// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"fmt"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// waitingWide counts the tasks that wait for a large window.
func (q *queue) waitingWide() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.wide.waiting)
}

// A token with many packs that need the largest window keeps neither the workers nor the
// next window from another.
func TestWide(t *testing.T) {
	q := newQueue(2)
	q.begin(nil)
	for i := range 4 {
		q.push(nil, "hog", job{"h", fmt.Sprint(i)}, 0)
	}
	type outcome struct {
		*task
		err error
	}
	got := make(chan outcome)
	widen := func(next *task, window int64) {
		go func() { got <- outcome{next, q.widen(next, window)} }()
	}
	var hogs []*task
	for i := range 4 {
		hogs = append(hogs, begin(t, q))
		widen(hogs[i], maxWide)
		if i == 0 {
			must.OK(t, (<-got).err)
		} else {
			must.Wait(t, "it waits", func() bool { return q.waitingWide() == i })
		}
	}
	q.push(nil, "other", job{"o", "plain"}, 0)
	q.finish(begin(t, q), nil) // there is a worker
	q.push(nil, "other", job{"o", "wide"}, 0)
	widen(begin(t, q), maxWide/4)
	must.Wait(t, "the other waits", func() bool { return q.waitingWide() == 4 })

	q.finish(hogs[0], nil)
	first := <-got
	if first.token != "other" || first.err != nil {
		t.Errorf("the next window is %s's, with error %v", first.token, first.err)
	}
	q.forget("h")
	for range 3 {
		cancelled := <-got
		if cancelled.token != "hog" || cancelled.err == nil {
			t.Errorf("a task of %s ends with error %v", cancelled.token, cancelled.err)
		}
		q.finish(cancelled.task, cancelled.err)
	}
	q.finish(first.task, nil)
	if q.wide.used != 0 || q.begun != 0 || q.free != 2 {
		t.Errorf("at the end %d bytes of windows, %d tasks and %d free workers", q.wide.used, q.begun, q.free)
	}
}
