// SPDX-License-Identifier: AGPL-3.0-or-later

package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"
)

// How many streams of events are open at most: of one token, whose browser has no more
// than some six connections to a server, and in all. Who gets none polls.
const (
	mostOfOne   = 12
	mostStreams = 64
)

// beatEvery is how often a stream says that it is alive, if nothing changes.
const beatEvery = 3 * time.Second

// judgeEvery is how often it is looked whether the token is still good.
const judgeEvery = time.Second

// streams counts those that are open, by the hash of the token.
type streams struct {
	mu     sync.Mutex
	all    int
	byHash map[string]int
}

func newStreams() *streams { return &streams{byHash: map[string]int{}} }

// open counts a stream until close; it is not ok if there are too many.
func (s *streams) open(hash string) (close func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= mostStreams || s.byHash[hash] >= mostOfOne {
		return nil, false
	}
	s.all++
	s.byHash[hash]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.byHash[hash]--; s.byHash[hash] == 0 {
			delete(s.byHash, hash)
		}
	}, true
}

// update is what has changed of a page.
type update struct {
	At       time.Time         `json:"at"`
	Title    string            `json:"title,omitempty"`
	Sections map[string]string `json:"sections,omitempty"`
	Problem  string            `json:"problem,omitempty"` // why it is not known what has changed
}

// stream sends what changes of a page, as it changes, until the browser is gone or the
// token is not good any more.
func (r *request) stream(w http.ResponseWriter, make func(*request) (*view, error)) {
	leave, ok := r.console.streams.open(r.hash)
	if !ok {
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	defer leave()
	e := &events{w: w, control: http.NewResponseController(w), seen: map[string]string{}, data: map[string]any{}}
	_ = e.control.SetReadDeadline(r.bodyUntil()) // a connection without deadlines needs none changed
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx holds nothing back then
	for {
		v, err := make(r)
		if refused(err, http.StatusUnauthorized) || e.changed(r, v, err) != nil || !e.rest(r, v) {
			break
		}
	}
	if r.Context().Err() == nil {
		_ = e.send("signed-out", update{At: time.Now()}) // one that is gone has left anyway
	}
}

// bodyUntil is how long the body of a request for a stream is waited for: for ever by a
// browser's, which has none, so that the connection lasts, and not at all for one that was
// declared and may never come.
func (r *request) bodyUntil() time.Time {
	if r.ContentLength == 0 {
		return time.Time{}
	}
	return time.Now()
}

// rest waits until it is time to look again. Meanwhile the token is judged each second, as
// a page may be looked at more seldom. It is not ok if the stream is to end.
func (e *events) rest(r *request, v *view) (ok bool) {
	wait := beatEvery
	if v != nil && v.Every > 0 {
		wait = v.Every
	}
	for until := time.Now().Add(wait); ; {
		select {
		case <-r.Context().Done():
			return false
		case <-time.After(min(time.Until(until), judgeEvery)):
		}
		if !r.console.on() || r.console.signIns.find(r.Request) == nil {
			return false
		}
		if !time.Now().Before(until) {
			return true
		}
		if _, err := r.askWho(); refused(err, http.StatusUnauthorized) || e.beat() != nil {
			return false
		}
	}
}

// events is a stream to a browser.
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
	data    map[string]any    // what sections were made of, to make only those that changed
	seen    map[string]string // sections as they were sent
	last    time.Time         // when something was sent
}

// changed sends what is not as it was sent before, or a beat in time.
func (e *events) changed(r *request, v *view, err error) error {
	now := time.Now().UTC()
	if err != nil {
		return e.send("problem", update{At: now, Problem: err.Error()})
	}
	u := update{At: now, Title: v.Title, Sections: map[string]string{}}
	changed := slices.DeleteFunc(slices.Clone(v.Sections), func(s section) bool { return reflect.DeepEqual(e.data[s.ID], s.data) })
	for _, s := range changed {
		e.data[s.ID] = s.data
	}
	for _, p := range r.render(changed) {
		if e.seen[p.ID] != string(p.HTML) {
			u.Sections[p.ID], e.seen[p.ID] = string(p.HTML), string(p.HTML)
		}
	}
	if len(u.Sections) == 0 {
		return e.beat()
	}
	return e.send("update", u)
}

// beat says that the stream is alive, if nothing else did lately.
func (e *events) beat() error {
	if time.Since(e.last) < beatEvery {
		return nil
	}
	return e.send("update", update{At: time.Now().UTC()})
}

func (e *events) send(name string, u update) error {
	text, err := json.Marshal(u)
	if err != nil {
		return err
	}
	e.last = time.Now()
	if _, err := fmt.Fprintf(e.w, "event: %s\ndata: %s\n\n", name, text); err != nil {
		return err
	}
	return e.control.Flush()
}

// sections answers with all sections as they are now, to a browser that polls.
func (r *request) sections(w http.ResponseWriter, make func(*request) (*view, error)) {
	u := update{At: time.Now().UTC(), Sections: map[string]string{}}
	v, err := make(r)
	switch {
	case refused(err, http.StatusUnauthorized):
		r.console.signIns.end(w, r.Request)
		w.WriteHeader(http.StatusUnauthorized)
		return
	case err != nil:
		u.Problem = err.Error()
	default:
		u.Title = v.Title
		for _, p := range r.render(v.Sections) {
			u.Sections[p.ID] = string(p.HTML)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(u) // a browser that is gone cannot be told
}
