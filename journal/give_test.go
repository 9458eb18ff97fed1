// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"errors"
	"fmt"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// A session that is given to another token is that token's, and otherwise as it was.
func TestGive(t *testing.T) {
	j := newJournal(t)
	id := create(t, j)
	before := session(t, j, id)
	for range 2 {
		got, err := j.Give(id, before.Token, "new", "boss")
		must.OK(t, err)
		if now := session(t, j, id); got.Token != "new" || now.Token != "new" || now.State != before.State || !now.Updated.Equal(before.Updated) {
			t.Errorf("%+v, and the journal has %+v", got, now)
		}
	}
	for _, id := range []string{"aaaabbbbccccdddd", id} { // there is none, and it is another's
		if _, err := j.Give(id, before.Token, "late", "late"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
	}
	if now := session(t, j, id); now.Token != "new" {
		t.Errorf("it is of %s", now.Token)
	}
	if now := session(t, j, id); len(now.Handed) != 1 || now.Handed[0].From != before.Token || now.Handed[0].To != "new" || now.Handed[0].By != "boss" || now.Handed[0].At.IsZero() {
		t.Errorf("it remembers %+v", now.Handed)
	}
	for i := range 2 * maxHanded {
		_, err := j.Give(id, session(t, j, id).Token, fmt.Sprint(i), "boss")
		must.OK(t, err)
	}
	if now := session(t, j, id); len(now.Handed) != maxHanded || now.Handed[maxHanded-1].To != now.Token {
		t.Errorf("it remembers %+v", now.Handed)
	}
	_, err := j.Move(id, Aborted, nil)
	must.OK(t, err)
	if _, err := j.Give(id, session(t, j, id).Token, "late", "boss"); !errors.As(err, new(*StateError)) {
		t.Errorf("one that has ended: %v", err)
	}
}
