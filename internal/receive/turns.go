// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"context"
	"sync"
	"time"
)

// turns lets each token have one answer gathered at a time that costs more than a
// look at one thing, and then rest: whoever asks for it in many loops at once gets a
// small part of one core, and the others have the rest. The answer is sent after
// that, however slowly.
type turns struct {
	tokens sync.Map // a chan struct{} of one place for each name of a token
}

// rest is how many times as long as an answer took its token waits for the next.
const rest = 4

// take calls f when it is the token's turn. Its error is f's, or why r ended.
func (t *turns) take(r *request, f func() error) error {
	turn, _ := t.tokens.LoadOrStore(r.token.Name, make(chan struct{}, 1))
	place := turn.(chan struct{})
	select {
	case place <- struct{}{}:
	case <-r.Context().Done():
		return context.Cause(r.Context())
	}
	began := time.Now()
	defer func() { time.AfterFunc(rest*time.Since(began), func() { <-place }) }()
	return f()
}
