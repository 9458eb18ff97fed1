// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"fmt"
	"slices"

	"github.com/lirios/ostree-upload/internal/wire"
)

// State is how far a session has come; it is stored as the word itself.
type State string

// The states of a session.
const (
	Open       State = wire.Open
	Verifying  State = wire.Verifying
	Publishing State = wire.Publishing
	Published  State = wire.Published
	Failed     State = wire.Failed
	Aborted    State = wire.Aborted
	Expired    State = wire.Expired
	Held       State = wire.Held
	Declined   State = wire.Rejected
)

// next holds the moves. A session goes back to Open or Held only while every ref is
// still old, and out of Publishing to Failed only if a ref is neither old nor
// new; the publisher ensures both.
var next = map[State][]State{
	Open:       {Verifying, Aborted, Expired},
	Verifying:  {Open, Publishing, Failed, Aborted, Held},
	Publishing: {Published, Failed, Open, Held},
	Held:       {Verifying, Declined, Aborted, Expired},
	Published:  nil,
	Failed:     nil,
	Aborted:    nil,
	Expired:    nil,
	Declined:   nil,
}

// Can reports whether a session may move from s to to. Staying is always allowed.
func (s State) Can(to State) bool { return s == to || slices.Contains(next[s], to) }

// Final reports whether a session in this state can never move again.
func (s State) Final() bool { return s.known() && len(next[s]) == 0 }

func (s State) known() bool {
	_, ok := next[s]
	return ok
}

// StateError says that a session's state does not allow what was asked.
type StateError struct {
	ID   string
	From State // the state that it is in
	To   State // the state that was asked for; "" if something else was
}

func (e *StateError) Error() string {
	if e.To == "" {
		return fmt.Sprintf("session %s is %s", e.ID, e.From)
	}
	return fmt.Sprintf("session %s is %s and cannot become %s", e.ID, e.From, e.To)
}

// Status is what is known of one object of a session's set. The numbers stand
// in the file.
type Status byte

const (
	// Missing objects are still to be sent.
	Missing Status = iota + 1
	// Present objects were in the repository when they were negotiated.
	Present
	// Staged objects were received and verified.
	Staged
	// Rejected objects were received and found bad; they may be sent again.
	Rejected
)

func (s Status) known() bool { return s >= Missing && s <= Rejected }

// String is the status in a word.
func (s Status) String() string {
	switch s {
	case Missing:
		return "missing"
	case Present:
		return "present"
	case Staged:
		return "staged"
	case Rejected:
		return "rejected"
	}
	return fmt.Sprintf("status %d", byte(s))
}
