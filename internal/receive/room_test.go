// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/tusstore"
)

// What is left for an upload: all that is free but what is to stay so, less its own
// token's claims, and less those of others up to one half. Inodes count, too.
func TestCheckRoom(t *testing.T) {
	const keep = 1000
	for name, tt := range map[string]struct {
		room   tusstore.Room
		length int64
		says   string // "" if there is room
	}{
		"fits":                {tusstore.Room{Bytes: 3000}, 2000, ""},
		"does not":            {tusstore.Room{Bytes: 3000}, 2001, "1000 are to stay free (min-free-space), but only 3000 are free"},
		"own claims":          {tusstore.Room{Bytes: 3000, Own: 1500}, 500, ""},
		"too many own claims": {tusstore.Room{Bytes: 3000, Own: 1500}, 501, "other uploads under way will take 1500"},
		"others' claims":      {tusstore.Room{Bytes: 3000, Others: 500}, 1501, "other uploads under way will take 500"},
		"others claim all":    {tusstore.Room{Bytes: 3000, Others: 1 << 50}, 1000, ""},
		"a full disk":         {tusstore.Room{Bytes: 500, Others: 1 << 50}, 1, "only 500 are free"},
		"few inodes":          {tusstore.Room{Bytes: 3000, Inodes: minInodes - 1}, 1, "only 999 inodes are free on the server, and 1000 are to stay free (min-free-space"},
	} {
		if tt.room.Inodes == 0 {
			tt.room.Inodes = math.MaxInt64
		}
		err := checkRoom("s", &tt.room, tt.length, keep)
		var p *wire.Problem
		switch {
		case tt.says == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.says != "" && (!errors.As(err, &p) || p.Code() != wire.InsufficientStorage || !strings.Contains(p.Error(), tt.says)):
			t.Errorf("%s: %v, which does not say %q", name, err, tt.says)
		}
	}
	if err := checkRoom("s", &tusstore.Room{Bytes: 10}, 10, 0); err != nil {
		t.Errorf("with min-free-space: 0: %v", err)
	}
}

// A session and its token have bounds of uploads under way, and a session one of all that
// it has had, which grows with its objects.
func TestCheckUploads(t *testing.T) {
	for _, test := range []struct {
		underway, ofToken int
		known, recorded   int64
		code              string
	}{
		{maxUploads - 1, maxTokenUploads - 1, 0, spareUploads - 1, ""},
		{maxUploads, maxUploads, 0, 0, wire.Quota},
		{0, maxTokenUploads, 0, 0, wire.Quota},
		{0, 0, 0, spareUploads, wire.TooLarge},
		{0, 0, 1, spareUploads, ""},
	} {
		err := checkUploads(&journal.Session{Counts: journal.Counts{Known: test.known}}, test.underway, test.ofToken, test.recorded)
		p := new(wire.Problem)
		if errors.As(err, &p); p.Code() != test.code || (p.HintIs == "") != (test.code == "") {
			t.Errorf("%+v: %v", test, err)
		}
	}
}
