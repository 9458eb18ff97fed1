// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
)

const testChunk = 256 << 10

// testSender sends to f without real pauses.
func testSender(t *testing.T, f *fake) *sender {
	t.Helper()
	c, err := NewClient(f.URL, "sesame")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	progress := new(Progress)
	p := newPatience(time.Minute, time.Minute, &progress.Retries, slog.New(slog.DiscardHandler))
	clock := &clock{at: time.Unix(1e9, 0)}
	p.now, p.sleep = func() time.Time { return clock.at }, clock.sleep
	return &sender{client: c, session: "aaaabbbbccccdddd", patience: p, progress: progress, pace: newPace(testChunk)}
}

// bigObject has a few chunks and an odd rest.
func bigObject() (*ostree.Object, []byte) {
	b := bytes.Repeat([]byte("0123456789abcdef!"), 60_000)
	return &ostree.Object{
		Name: ostree.Name{Checksum: ostree.Checksum{9}, Type: ostree.File}, Size: int64(len(b)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
	}, b
}

// once lets a fault happen at the nth request of a method only.
func once(method string, nth int32, fault http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || n.Add(1) != nth {
			return false
		}
		fault(w, r)
		return true
	}
}

func answerWith(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		http.Error(w, body, code)
	}
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// Whatever fails once, the upload arrives whole.
func TestUploadSurvives(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(f *fake) func(http.ResponseWriter, *http.Request) bool
	}{
		{"nothing", func(*fake) func(http.ResponseWriter, *http.Request) bool { return nil }},
		{"create cut", func(*fake) func(http.ResponseWriter, *http.Request) bool { return once("POST", 1, hangUp) }},
		{"answer to create lost", func(f *fake) func(http.ResponseWriter, *http.Request) bool {
			return once("POST", 1, func(w http.ResponseWriter, r *http.Request) { f.tus(quiet{}, r); hangUp(w, r) })
		}},
		{"chunk cut", func(*fake) func(http.ResponseWriter, *http.Request) bool { return once("PATCH", 2, hangUp) }},
		{"answer to chunk lost", func(f *fake) func(http.ResponseWriter, *http.Request) bool {
			return once("PATCH", 2, func(w http.ResponseWriter, r *http.Request) { f.tus(quiet{}, r); hangUp(w, r) })
		}},
		{"answer to last chunk lost", func(f *fake) func(http.ResponseWriter, *http.Request) bool {
			return once("PATCH", 4, func(w http.ResponseWriter, r *http.Request) { f.tus(quiet{}, r); hangUp(w, r) })
		}},
		{"part of a chunk", func(f *fake) func(http.ResponseWriter, *http.Request) bool {
			return once("PATCH", 1, func(w http.ResponseWriter, r *http.Request) {
				r.Body = io.NopCloser(io.LimitReader(r.Body, 1000))
				f.tus(quiet{}, r)
				hangUp(w, r)
			})
		}},
		{"interrupted", func(*fake) func(http.ResponseWriter, *http.Request) bool {
			return once("PATCH", 1, answerWith(400, "ERR_UPLOAD_INTERRUPTED: upload has been interrupted"))
		}},
		{"offset mismatch", func(*fake) func(http.ResponseWriter, *http.Request) bool {
			return once("PATCH", 2, answerWith(409, "ERR_MISMATCHED_OFFSET: mismatched offset"))
		}},
		{"locked", func(*fake) func(http.ResponseWriter, *http.Request) bool {
			return once("PATCH", 1, answerWith(423, "ERR_UPLOAD_LOCKED"))
		}},
		{"server error", func(*fake) func(http.ResponseWriter, *http.Request) bool {
			return once("PATCH", 1, answerWith(500, "ERR_LOCK_TIMEOUT"))
		}},
		{"HEAD fails", func(*fake) func(http.ResponseWriter, *http.Request) bool {
			cut, head := once("PATCH", 1, hangUp), once("HEAD", 1, answerWith(503, ""))
			return func(w http.ResponseWriter, r *http.Request) bool { return cut(w, r) || head(w, r) }
		}},
		{"upload forgotten", func(f *fake) func(http.ResponseWriter, *http.Request) bool {
			return once("PATCH", 3, func(w http.ResponseWriter, r *http.Request) {
				f.mu.Lock()
				clear(f.uploads)
				f.mu.Unlock()
				f.tus(w, r)
			})
		}},
		{"204 without offset", func(*fake) func(http.ResponseWriter, *http.Request) bool {
			return once("PATCH", 1, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); w.WriteHeader(204) })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			f.fault = c.fault(f)
			o, want := bigObject()
			s := testSender(t, f)
			if err := s.sendObject(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(f.sent(t), want) {
				t.Error("other bytes arrived")
			}
			if s.progress.Sent.Load() != 1 {
				t.Errorf("%d objects counted", s.progress.Sent.Load())
			}
		})
	}
}

// quiet is where an answer gets lost.
type quiet struct{}

func (quiet) Header() http.Header         { return http.Header{} }
func (quiet) Write(b []byte) (int, error) { return len(b), nil }
func (quiet) WriteHeader(int)             {}

func TestUploadAsksBeforeItSends(t *testing.T) {
	f := newFake(t)
	f.fault = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == "PATCH" && r.Header.Get("Expect") != "100-continue" {
			t.Errorf("PATCH with Expect %q", r.Header.Get("Expect"))
		}
		return false
	}
	o, _ := bigObject()
	if err := testSender(t, f).sendObject(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

// A proxy with a small limit makes chunks small; our own server's limit is final.
func TestUploadHalvesChunkAfter413(t *testing.T) {
	f := newFake(t)
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "PATCH" || r.ContentLength <= 100_000 {
			return false
		}
		http.Error(w, "<html>too large</html>", http.StatusRequestEntityTooLarge)
		return true
	}
	o, want := bigObject()
	s := testSender(t, f)
	if err := s.sendObject(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.sent(t), want) || s.pace.next() != testChunk/4 {
		t.Errorf("chunk %d", s.pace.next())
	}
}

// A proxy that refuses Expect is not asked again; where none does, each request
// has it.
func TestUploadWithoutExpect(t *testing.T) {
	for name, refuses := range map[string]bool{"refused": true, "taken": false} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			var with, without atomic.Int64
			f.fault = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != "PATCH" {
					return false
				}
				if r.Header.Get("Expect") == "" {
					without.Add(1)
					return false
				}
				with.Add(1)
				if refuses {
					http.Error(w, "", http.StatusExpectationFailed)
				}
				return refuses
			}
			o, want := bigObject()
			s := testSender(t, f)
			if err := s.sendObject(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(f.sent(t), want) || s.progress.Retries.Load() != 0 {
				t.Errorf("%d retries", s.progress.Retries.Load())
			}
			if refuses && with.Load() != 1 || !refuses && without.Load() != 0 {
				t.Errorf("%d requests with it, %d without", with.Load(), without.Load())
			}
		})
	}
}

func TestUploadStopsAtRefusals(t *testing.T) {
	for _, c := range []struct {
		method string
		p      *wire.Problem
	}{
		{"POST", wire.Errorf(wire.SessionClosed, "session is aborted")},
		{"PATCH", wire.Errorf(wire.SessionClosed, "session is aborted")},
		{"POST", wire.Errorf(wire.TooLarge, "objects of at most 10 bytes")},
		{"PATCH", wire.Errorf(wire.TooLarge, "sessions of at most 10 bytes")},
		{"POST", wire.Errorf(wire.Unauthorized, "token expired")},
		{"PATCH", wire.Errorf(wire.Forbidden, "token revoked")},
		{"PATCH", wire.Errorf(wire.InsufficientStorage, "disk full")},
	} {
		t.Run(c.method+" "+c.p.Code(), func(t *testing.T) {
			f := newFake(t)
			f.fault = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == c.method {
					refuse(w, c.p)
				}
				return r.Method == c.method
			}
			o, _ := bigObject()
			err := testSender(t, f).sendObject(t.Context(), o)
			if code(err) != c.p.Code() || f.count(c.method) != 1 {
				t.Errorf("%v after %d requests", err, f.count(c.method))
			}
		})
	}
}

// An earlier run's bytes count if they are the same and go if they are not.
func TestUploadResumesOnlyTheSameBytes(t *testing.T) {
	for _, same := range []bool{true, false} {
		f := newFake(t)
		o, want := bigObject()
		f.fault = func(w http.ResponseWriter, r *http.Request) bool {
			if f.count("PATCH") > 2 {
				refuse(w, wire.Errorf(wire.Forbidden, "enough"))
				return true
			}
			return false
		}
		if err := testSender(t, f).sendObject(t.Context(), o); code(err) != wire.Forbidden {
			t.Fatal(err)
		}
		f.heal()
		if !same {
			want = bytes.ToUpper(want)
			o.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(want)), nil }
		}
		s := testSender(t, f)
		if err := s.sendObject(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(f.sent(t), want) {
			t.Errorf("same %v: other bytes arrived", same)
		}
		left := int64(len(want))
		if same {
			left -= 2 * testChunk
		}
		if s.progress.Acknowledged.Load() != left {
			t.Errorf("same %v: %d bytes sent, want %d", same, s.progress.Acknowledged.Load(), left)
		}
	}
}

// What the build repository cannot read is no fault of the network.
func TestUploadStopsAtUnreadableObject(t *testing.T) {
	f := newFake(t)
	o, b := bigObject()
	opened := 0
	o.Open = func() (io.ReadCloser, error) {
		if opened++; opened == 1 { // for the digest
			return io.NopCloser(bytes.NewReader(b)), nil
		}
		return nil, errors.New("input/output error")
	}
	err := testSender(t, f).sendObject(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), o.Name.String()) || f.count("PATCH") != 0 {
		t.Errorf("%v", err)
	}
}

func TestResentBytesAreCounted(t *testing.T) {
	f := newFake(t)
	f.fault = once("PATCH", 2, answerWith(500, ""))
	o, want := bigObject()
	s := testSender(t, f)
	if err := s.sendObject(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	var r Result
	s.progress.copyTo(&r)
	if r.BytesSent != int64(len(want)) || r.BytesResent != testChunk || r.Retries != 1 {
		t.Errorf("%+v", r)
	}
}

// What was in flight when the push ended was not sent again.
func TestInFlightIsNotResent(t *testing.T) {
	f := newFake(t)
	f.fault = once("PATCH", 2, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		hangUp(w, r)
	})
	o, _ := bigObject()
	s := testSender(t, f)
	s.patience.limit = 0
	if err := s.sendObject(t.Context(), o); err == nil {
		t.Fatal("it went on")
	}
	var r Result
	s.progress.copyTo(&r)
	if r.BytesSent != testChunk || r.BytesResent != 0 {
		t.Errorf("%+v", r)
	}
}

// A link that breaks before any request is through still gets on, as the server
// keeps what came of each; that counts as progress.
func TestUploadByPartsOfRequests(t *testing.T) {
	f := newFake(t)
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "PATCH" || r.ContentLength <= 10_000 {
			return false
		}
		r.Body = io.NopCloser(io.LimitReader(r.Body, 10_000))
		f.tus(quiet{}, r)
		hangUp(w, r)
		return true
	}
	o, want := bigObject()
	s := testSender(t, f)
	if err := s.sendObject(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.sent(t), want) || s.pace.next() != smallestChunk {
		t.Errorf("chunk %d", s.pace.next())
	}
}

// A link that swallows everything is left for a new connection, which works.
func TestUploadLeavesABlackHole(t *testing.T) {
	f := newFake(t)
	l, err := link.Listen(f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := testSender(t, f)
	if s.client, err = NewClient("http://"+l.Address(), "sesame"); err != nil {
		t.Fatal(err)
	}
	defer s.client.Close()
	pauses := 0
	s.patience.sleep = func(context.Context, time.Duration) error {
		pauses++
		l.BlackHole(false)
		return nil
	}
	o, want := bigObject()
	l.At(int64(len(want))/2, func() { l.BlackHole(true) })
	if err := s.sendObject(withStall(t.Context(), 300*time.Millisecond), o); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.sent(t), want) || pauses == 0 {
		t.Errorf("%d pauses", pauses)
	}
}
