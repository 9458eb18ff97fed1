// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"errors"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// A session that is given to another token is that token's, and otherwise as it was.
func TestGive(t *testing.T) {
	j := newJournal(t)
	id := create(t, j)
	before := session(t, j, id)
	for range 2 {
		got, err := j.Give(id, before.Token, "new")
		must.OK(t, err)
		if now := session(t, j, id); got.Token != "new" || now.Token != "new" || now.State != before.State || !now.Updated.Equal(before.Updated) {
			t.Errorf("%+v, and the journal has %+v", got, now)
		}
	}
	for _, id := range []string{"aaaabbbbccccdddd", id} { // there is none, and it is another's
		if _, err := j.Give(id, before.Token, "late"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
	}
	if now := session(t, j, id); now.Token != "new" {
		t.Errorf("it is of %s", now.Token)
	}
}
