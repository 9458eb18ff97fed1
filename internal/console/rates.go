// SPDX-License-Identifier: AGPL-3.0-or-later

package console

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

// How long a rate looks back, how far two looks are apart at least, and after which time
// without a look a session is forgotten.
const (
	ratedOver   = 20 * time.Second
	looksApart  = time.Second
	forgetAfter = time.Minute
)

// speed is how fast a session goes; zeros where that is not known.
type speed struct {
	Bytes int64         // a second
	Left  time.Duration // until its objects are there, at the present rate
}

// rates are how far sessions were when somebody looked.
type rates struct {
	mu    sync.Mutex
	looks map[string][]look // by repository and session
}

type look struct {
	at             time.Time
	bytes, objects int64
}

func newRates() *rates { return &rates{looks: map[string][]look{}} }

// of notes how far a session is, and tells how fast it went since the last looks.
func (t *rates) of(repository string, s *wire.Session, now time.Time) speed {
	if s.State != wire.Open {
		return speed{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key, there := repository+"/"+s.ID, s.Objects.Known-s.Objects.Missing
	looks := t.looks[key]
	if len(looks) == 0 {
		t.forget(now)
	}
	if len(looks) == 0 || now.Sub(looks[len(looks)-1].at) >= looksApart {
		looks = append(looks, look{now, s.Bytes.Received, there})
	}
	looks = slices.DeleteFunc(looks, func(l look) bool { return now.Sub(l.at) > ratedOver })
	t.looks[key] = looks
	took := now.Sub(looks[0].at)
	if took < looksApart {
		return speed{}
	}
	rate := speed{Bytes: perSecond(s.Bytes.Received-looks[0].bytes, took)}
	if objects := there - looks[0].objects; objects > 0 {
		rate.Left = took * time.Duration(s.Objects.Missing) / time.Duration(objects)
	}
	return rate
}

// forget drops sessions at which nobody has looked for a while.
func (t *rates) forget(now time.Time) {
	maps.DeleteFunc(t.looks, func(_ string, looks []look) bool { return now.Sub(looks[len(looks)-1].at) > forgetAfter })
}

func perSecond(n int64, took time.Duration) int64 {
	return int64(float64(max(0, n)) / took.Seconds())
}
