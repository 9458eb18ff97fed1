// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/fake"
)

// testRun is a push to f that has a session and no repository.
func testRun(t *testing.T, f *fake.Server) *run {
	t.Helper()
	return testRunWith(t, f, Options{RetryFor: time.Minute})
}

func testRunWith(t *testing.T, f *fake.Server, opt Options) *run {
	t.Helper()
	opt.fill()
	c, err := client.New(f.URL, "sesame")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	traffic := &opt.Progress.Traffic
	retrier := client.NewRetrier(opt.RetryFor, opt.FirstContact, &traffic.Retries, opt.Log)
	return &run{
		opt: opt, client: c, retrier: retrier, progress: opt.Progress,
		uploader: client.NewUploader(c, retrier, traffic, opt.ChunkSize),
		session:  wire.Session{ID: "aaaabbbbccccdddd", State: wire.Open},
	}
}

// An object counts as sent once the server has all of it.
func TestSentObjectsAreCounted(t *testing.T) {
	r := testRun(t, fake.Start(t))
	if err := r.sendObject(t.Context(), memory(9, []byte("bytes"))); err != nil {
		t.Fatal(err)
	}
	if r.progress.Sent.Load() != 1 || r.progress.Traffic.Acknowledged.Load() != 5 {
		t.Errorf("%d objects, %d bytes", r.progress.Sent.Load(), r.progress.Traffic.Acknowledged.Load())
	}
}

// What the build repository cannot read is no fault of the network.
func TestUploadStopsAtUnreadableObject(t *testing.T) {
	f := fake.Start(t)
	b := []byte("bytes")
	o := memory(9, b)
	opened := 0
	o.Open = func() (io.ReadCloser, error) {
		if opened++; opened == 1 { // for the digest
			return io.NopCloser(bytes.NewReader(b)), nil
		}
		return nil, errors.New("input/output error")
	}
	r := testRun(t, f)
	err := r.sendObject(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), o.Name.String()) || f.Count("PATCH") != 0 || r.progress.Sent.Load() != 0 {
		t.Errorf("%v", err)
	}
}
