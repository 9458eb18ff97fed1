// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/fake"
)

// A firewall answers what is neither GET, HEAD nor POST as deny does.
type firewall struct {
	deny   http.HandlerFunc
	denied atomic.Int32
}

func (f *firewall) fault(w http.ResponseWriter, r *http.Request) bool {
	if isPost(r) || r.Method == "GET" || r.Method == "HEAD" {
		return false
	}
	f.denied.Add(1)
	w.Header().Set("Via", "1.1 gate")
	f.deny(w, r)
	return true
}

// isPost tells whether a request came as a POST, whatever it stands for.
func isPost(r *http.Request) bool {
	return r.Method == "POST" || r.Header.Get(wire.OverrideHeader) != ""
}

// deniers are how products refuse a method.
var deniers = map[string]http.HandlerFunc{
	"400":      fake.AnswerWith(400, "bad request"),
	"403":      fake.AnswerWith(403, "forbidden"),
	"404":      fake.AnswerWith(404, "verb denied"),
	"405":      fake.AnswerWith(405, "not allowed"),
	"406":      fake.AnswerWith(406, "not acceptable"),
	"501":      fake.AnswerWith(501, "method unknown"),
	"page":     func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>The URL was rejected</html>") },
	"cut":      fake.HangUp,
	"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/blocked", http.StatusFound) },
}

// Through a firewall that lets GET, HEAD and POST through, uploads and aborts travel by
// POST; the firewall is asked once.
func TestFirewallWithoutPatch(t *testing.T) {
	for name, deny := range deniers {
		t.Run(name, func(t *testing.T) {
			f := fake.Start(t)
			gate := &firewall{deny: deny}
			f.Fault = gate.fault
			u := newTestUploader(t, f.URL)
			want := bigObject()
			if err := uploadObject(t.Context(), u, want); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(f.Sent(t), want) || u.traffic.Retries.Load() != 0 || u.traffic.Acknowledged.Load() != int64(len(want)) {
				t.Errorf("%d bytes acknowledged, %d retries", u.traffic.Acknowledged.Load(), u.traffic.Retries.Load())
			}
			if err := u.client.terminate(t.Context(), testSession, testObject.String()); err != nil {
				t.Error(err)
			}
			if n := gate.denied.Load(); n != 1 {
				t.Errorf("the firewall was asked %d times", n)
			}
		})
	}
}

// An abort finds it out as an upload does.
func TestFirewallWithoutDelete(t *testing.T) {
	f := fake.Start(t)
	f.Fault = (&firewall{deny: deniers["403"]}).fault
	f.Session = &wire.Session{ID: testSession, State: wire.Open}
	c := newTestUploader(t, f.URL).client
	if s, err := c.Abort(t.Context(), testSession); err != nil || s.State != wire.Aborted {
		t.Errorf("%+v, %v", s, err)
	}
}

// Where POST does not get through either, or does to a server that does not know the
// header, the error is that of the method itself.
func TestFirewallWithoutAnything(t *testing.T) {
	for name, post := range map[string]http.HandlerFunc{
		"closed": fake.AnswerWith(403, "no"),
		"older": func(w http.ResponseWriter, _ *http.Request) {
			fake.Refuse(w, &wire.Problem{Type: wire.TypePrefix + wire.BadRequest, Status: 405})
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := fake.Start(t)
			gate := &firewall{deny: deniers["405"]}
			f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get(wire.OverrideHeader) != "" {
					post(w, r)
					return true
				}
				return gate.fault(w, r)
			}
			u := newTestUploader(t, f.URL)
			err := uploadObject(t.Context(), u, bigObject())
			if KindOf(err) != Permanent || !strings.Contains(err.Error(), "1.1 gate") || !strings.Contains(err.Error(), "to PATCH") {
				t.Errorf("%v", err)
			}
			if u.client.transport.posting.Load() {
				t.Error("POST was kept although it does not work")
			}
		})
	}
}

// A firewall that takes no large POST either is told by its size, as one that takes no
// large PATCH is.
func TestFirewallWithSmallBodies(t *testing.T) {
	f := fake.Start(t)
	gate := &firewall{deny: deniers["501"]}
	f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.ContentLength > testChunk/2 && isPost(r) {
			fake.AnswerWith(413, "too large")(w, r)
			return true
		}
		return gate.fault(w, r)
	}
	want := bigObject()
	u := newTestUploader(t, f.URL)
	if err := uploadObject(t.Context(), u, want); err != nil || !bytes.Equal(f.Sent(t), want) {
		t.Errorf("%v, %d bytes", err, len(f.Sent(t)))
	}
}

// What our server itself refuses is not sent again as a POST, nor is what a busy proxy
// does.
func TestNoPostWithoutFirewall(t *testing.T) {
	for name, refuse := range map[string]http.HandlerFunc{
		"ours": func(w http.ResponseWriter, _ *http.Request) { fake.Refuse(w, wire.Errorf(wire.Forbidden, "no")) },
		"413":  fake.AnswerWith(413, "too large"),
		"502":  fake.AnswerWith(502, "bad gateway"),
	} {
		t.Run(name, func(t *testing.T) {
			f := fake.Start(t)
			once := fake.Once("PATCH", 1, refuse)
			posts := 0
			f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get(wire.OverrideHeader) != "" {
					posts++
				}
				return once(w, r)
			}
			u := newTestUploader(t, f.URL)
			_ = uploadObject(t.Context(), u, bigObject()) // with or without success
			if posts != 0 || u.client.transport.posting.Load() {
				t.Error("it was sent as a POST")
			}
		})
	}
}

// A POST whose answer is lost is tried again, as any request.
func TestFirewallAndBrokenLink(t *testing.T) {
	f := fake.Start(t)
	gate := &firewall{deny: deniers["405"]}
	cut := fake.Once("PATCH", 1, fake.HangUp)
	f.Fault = func(w http.ResponseWriter, r *http.Request) bool { return gate.fault(w, r) || cut(w, r) }
	want := bigObject()
	u := newTestUploader(t, f.URL)
	if err := uploadObject(t.Context(), u, want); err != nil || !bytes.Equal(f.Sent(t), want) {
		t.Errorf("%v, %d bytes", err, len(f.Sent(t)))
	}
}
