// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/fake"
	"github.com/lirios/ostree-upload/test/link"
)

const testChunk = 256 << 10

const testSession = "aaaabbbbccccdddd"

// newTestUploader returns one whose pauses are over at once.
func newTestUploader(t *testing.T, address string) *Uploader {
	t.Helper()
	c, err := New(address, "sesame")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	traffic := new(Traffic)
	r := NewRetrier(time.Minute, time.Minute, &traffic.Retries, slog.New(slog.DiscardHandler))
	r.first = time.Microsecond
	return NewUploader(c, r, traffic, testChunk)
}

// uploadObject uploads b as an object.
func uploadObject(ctx context.Context, u *Uploader, b []byte) error {
	sum := sha256.Sum256(b)
	return u.Object(ctx, testSession, testObject, hex.EncodeToString(sum[:]), bytes.NewReader(b), int64(len(b)))
}

var testObject = ostree.Name{Checksum: ostree.Checksum{9}, Type: ostree.File}

// bigObject has a few chunks and an odd rest.
func bigObject() []byte { return bytes.Repeat([]byte("0123456789abcdef!"), 60_000) }

// Whatever fails once, the upload arrives whole.
func TestUploadSurvives(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(f *fake.Server) func(http.ResponseWriter, *http.Request) bool
	}{
		{"nothing", func(*fake.Server) func(http.ResponseWriter, *http.Request) bool { return nil }},
		{"create cut", func(*fake.Server) func(http.ResponseWriter, *http.Request) bool {
			return fake.Once("POST", 1, fake.HangUp)
		}},
		{"answer to create lost", func(f *fake.Server) func(http.ResponseWriter, *http.Request) bool {
			return fake.Once("POST", 1, func(w http.ResponseWriter, r *http.Request) { f.Tus(fake.Quiet{}, r); fake.HangUp(w, r) })
		}},
		{"chunk cut", func(*fake.Server) func(http.ResponseWriter, *http.Request) bool {
			return fake.Once("PATCH", 2, fake.HangUp)
		}},
		{"answer to chunk lost", func(f *fake.Server) func(http.ResponseWriter, *http.Request) bool {
			return fake.Once("PATCH", 2, func(w http.ResponseWriter, r *http.Request) { f.Tus(fake.Quiet{}, r); fake.HangUp(w, r) })
		}},
		{"answer to last chunk lost", func(f *fake.Server) func(http.ResponseWriter, *http.Request) bool {
			return fake.Once("PATCH", 4, func(w http.ResponseWriter, r *http.Request) { f.Tus(fake.Quiet{}, r); fake.HangUp(w, r) })
		}},
		{"part of a chunk", func(f *fake.Server) func(http.ResponseWriter, *http.Request) bool {
			return fake.Once("PATCH", 1, func(w http.ResponseWriter, r *http.Request) {
				r.Body = io.NopCloser(io.LimitReader(r.Body, 1000))
				f.Tus(fake.Quiet{}, r)
				fake.HangUp(w, r)
			})
		}},
		{"interrupted", func(*fake.Server) func(http.ResponseWriter, *http.Request) bool {
			return fake.Once("PATCH", 1, fake.AnswerWith(400, "ERR_UPLOAD_INTERRUPTED: upload has been interrupted"))
		}},
		{"offset mismatch", func(*fake.Server) func(http.ResponseWriter, *http.Request) bool {
			return fake.Once("PATCH", 2, fake.AnswerWith(409, "ERR_MISMATCHED_OFFSET: mismatched offset"))
		}},
		{"locked", func(*fake.Server) func(http.ResponseWriter, *http.Request) bool {
			return fake.Once("PATCH", 1, fake.AnswerWith(423, "ERR_UPLOAD_LOCKED"))
		}},
		{"server error", func(*fake.Server) func(http.ResponseWriter, *http.Request) bool {
			return fake.Once("PATCH", 1, fake.AnswerWith(500, "ERR_LOCK_TIMEOUT"))
		}},
		{"HEAD fails", func(*fake.Server) func(http.ResponseWriter, *http.Request) bool {
			cut, head := fake.Once("PATCH", 1, fake.HangUp), fake.Once("HEAD", 1, fake.AnswerWith(503, ""))
			return func(w http.ResponseWriter, r *http.Request) bool { return cut(w, r) || head(w, r) }
		}},
		{"upload forgotten", func(f *fake.Server) func(http.ResponseWriter, *http.Request) bool {
			return fake.Once("PATCH", 3, func(w http.ResponseWriter, r *http.Request) {
				f.Mu.Lock()
				clear(f.Uploads)
				f.Mu.Unlock()
				f.Tus(w, r)
			})
		}},
		{"204 without offset", func(*fake.Server) func(http.ResponseWriter, *http.Request) bool {
			return fake.Once("PATCH", 1, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); w.WriteHeader(204) })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := fake.Start(t)
			f.Fault = c.fault(f)
			want := bigObject()
			u := newTestUploader(t, f.URL)
			if err := uploadObject(t.Context(), u, want); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(f.Sent(t), want) {
				t.Error("other bytes arrived")
			}
		})
	}
}

func TestUploadAsksBeforeItSends(t *testing.T) {
	f := fake.Start(t)
	f.Fault = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == "PATCH" && r.Header.Get("Expect") != "100-continue" {
			t.Errorf("PATCH with Expect %q", r.Header.Get("Expect"))
		}
		return false
	}
	b := bigObject()
	if err := uploadObject(t.Context(), newTestUploader(t, f.URL), b); err != nil {
		t.Fatal(err)
	}
}

// A proxy with a small limit makes chunks small; our own server's limit is final.
func TestUploadHalvesChunkAfter413(t *testing.T) {
	f := fake.Start(t)
	f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "PATCH" || r.ContentLength <= 100_000 {
			return false
		}
		http.Error(w, "<html>too large</html>", http.StatusRequestEntityTooLarge)
		return true
	}
	want := bigObject()
	u := newTestUploader(t, f.URL)
	if err := uploadObject(t.Context(), u, want); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.Sent(t), want) || u.pace.next() != testChunk/4 {
		t.Errorf("chunk %d", u.pace.next())
	}
}

// A proxy that refuses Expect is not asked again; where none does, each request
// has it.
func TestUploadWithoutExpect(t *testing.T) {
	for name, refuses := range map[string]bool{"refused": true, "taken": false} {
		t.Run(name, func(t *testing.T) {
			f := fake.Start(t)
			var with, without atomic.Int64
			f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
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
			want := bigObject()
			u := newTestUploader(t, f.URL)
			if err := uploadObject(t.Context(), u, want); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(f.Sent(t), want) || u.traffic.Retries.Load() != 0 {
				t.Errorf("%d retries", u.traffic.Retries.Load())
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
			f := fake.Start(t)
			f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == c.method {
					fake.Refuse(w, c.p)
				}
				return r.Method == c.method
			}
			b := bigObject()
			err := uploadObject(t.Context(), newTestUploader(t, f.URL), b)
			if Code(err) != c.p.Code() || f.Count(c.method) != 1 {
				t.Errorf("%v after %d requests", err, f.Count(c.method))
			}
		})
	}
}

// An earlier run's bytes count if they are the same and go if they are not.
func TestUploadResumesOnlyTheSameBytes(t *testing.T) {
	for _, same := range []bool{true, false} {
		f := fake.Start(t)
		want := bigObject()
		f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
			if f.Count("PATCH") > 2 {
				fake.Refuse(w, wire.Errorf(wire.Forbidden, "enough"))
				return true
			}
			return false
		}
		if err := uploadObject(t.Context(), newTestUploader(t, f.URL), want); Code(err) != wire.Forbidden {
			t.Fatal(err)
		}
		f.Heal()
		if !same {
			want = bytes.ToUpper(want)
		}
		u := newTestUploader(t, f.URL)
		if err := uploadObject(t.Context(), u, want); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(f.Sent(t), want) {
			t.Errorf("same %v: other bytes arrived", same)
		}
		had := int64(0)
		if same {
			had = 2 * testChunk
		}
		if c := u.traffic; c.Acknowledged.Load() != int64(len(want))-had || c.Skipped.Load() != had {
			t.Errorf("same %v: %d bytes sent, %d skipped, want %d", same, c.Acknowledged.Load(), c.Skipped.Load(), had)
		}
	}
}

// A body that cannot be read is no fault of the network: nothing is repeated.
func TestUploadStopsAtUnreadableBody(t *testing.T) {
	f := fake.Start(t)
	u, broken := newTestUploader(t, f.URL), errors.New("input/output error")
	err := u.Pack(t.Context(), testSession, "pack-1", struct {
		io.Reader
		io.Seeker
	}{iotest.ErrReader(broken), strings.NewReader("")}, 100)
	if !errors.Is(err, broken) || f.Count("PATCH") != 0 || u.traffic.Retries.Load() != 0 {
		t.Errorf("%v, %d retries", err, u.traffic.Retries.Load())
	}
}

// Bytes that go out again after their answer failed count as resent.
func TestResentBytesAreCounted(t *testing.T) {
	f := fake.Start(t)
	f.Fault = fake.Once("PATCH", 2, fake.AnswerWith(500, ""))
	want := bigObject()
	u := newTestUploader(t, f.URL)
	if err := uploadObject(t.Context(), u, want); err != nil {
		t.Fatal(err)
	}
	if c := u.traffic; c.Acknowledged.Load() != int64(len(want)) || c.Resent.Load() != testChunk || c.Retries.Load() != 1 {
		t.Errorf("%d bytes acknowledged, %d resent, %d retries", c.Acknowledged.Load(), c.Resent.Load(), c.Retries.Load())
	}
}

// What was in flight when the push ended was not sent again.
func TestInFlightIsNotResent(t *testing.T) {
	f := fake.Start(t)
	f.Fault = fake.Once("PATCH", 2, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		fake.HangUp(w, r)
	})
	want := bigObject()
	u := newTestUploader(t, f.URL)
	u.retrier.limit = 0
	if err := uploadObject(t.Context(), u, want); err == nil {
		t.Fatal("it went on")
	}
	if c := u.traffic; c.Acknowledged.Load() != testChunk || c.Resent.Load() != 0 {
		t.Errorf("%d bytes acknowledged, %d resent", c.Acknowledged.Load(), c.Resent.Load())
	}
}

// A link that breaks before any request is through still gets on, as the server
// keeps what came of each; that counts as progress.
func TestUploadByPartsOfRequests(t *testing.T) {
	f := fake.Start(t)
	f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "PATCH" || r.ContentLength <= 10_000 {
			return false
		}
		r.Body = io.NopCloser(io.LimitReader(r.Body, 10_000))
		f.Tus(fake.Quiet{}, r)
		fake.HangUp(w, r)
		return true
	}
	want := bigObject()
	u := newTestUploader(t, f.URL)
	if err := uploadObject(t.Context(), u, want); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.Sent(t), want) || u.pace.next() != smallestChunk {
		t.Errorf("chunk %d", u.pace.next())
	}
}

// A link that swallows everything is left for a new connection, which works.
func TestUploadLeavesABlackHole(t *testing.T) {
	f := fake.Start(t)
	l, err := link.Listen(f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u := newTestUploader(t, "http://"+l.Address())
	u.retrier.log = slog.New(onRecord{slog.DiscardHandler, func() { l.BlackHole(false) }}) // it logs each retry
	want := bigObject()
	l.At(int64(len(want))/2, func() { l.BlackHole(true) })
	if err := uploadObject(WithStall(t.Context(), 300*time.Millisecond), u, want); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.Sent(t), want) || u.traffic.Retries.Load() == 0 {
		t.Errorf("%d retries", u.traffic.Retries.Load())
	}
}

// An onRecord calls do at each record of a log.
type onRecord struct {
	slog.Handler
	do func()
}

func (h onRecord) Enabled(context.Context, slog.Level) bool { return true }

func (h onRecord) Handle(context.Context, slog.Record) error {
	h.do()
	return nil
}
