// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import "sync"

// interrupted counts, for each session, the requests with bytes of uploads that broke off.
// It is in memory, and begins anew when it knows too many sessions.
type interrupted struct {
	mu     sync.Mutex
	counts map[string]int64
}

// mostInterrupted bounds the sessions that are counted for.
const mostInterrupted = 10_000

func (i *interrupted) add(session string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.counts == nil || len(i.counts) >= mostInterrupted && i.counts[session] == 0 {
		i.counts = map[string]int64{}
	}
	i.counts[session]++
}

func (i *interrupted) of(session string) int64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.counts[session]
}
