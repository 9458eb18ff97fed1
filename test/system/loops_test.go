// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"fmt"
	"sync"
	"testing"
)

// loops are what others do beside a test, again and again.
type loops struct {
	over chan struct{}
	wait sync.WaitGroup

	mu     sync.Mutex
	rounds []string // how often each did it
	failed []error
}

func newLoops() *loops { return &loops{over: make(chan struct{})} }

// start has somebody do something until end, and once more, or until it fails.
func (l *loops) start(who string, once func() error) {
	l.wait.Go(func() {
		for n, last := 1, false; ; n++ {
			err := once()
			if err != nil || last {
				l.ended(who, n, err)
				return
			}
			select {
			case <-l.over:
				last = true
			default:
			}
		}
	})
}

func (l *loops) ended(who string, n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rounds = append(l.rounds, fmt.Sprintf("%s: %d times", who, n))
	if err != nil {
		l.failed = append(l.failed, fmt.Errorf("%s: %w", who, err))
	}
}

// end ends them, and fails the test if something failed.
func (l *loops) end(t *testing.T) {
	t.Helper()
	close(l.over)
	l.wait.Wait()
	t.Log(l.rounds)
	for _, err := range l.failed {
		t.Error(err)
	}
}
