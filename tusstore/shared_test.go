// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/lirios/ostree-upload/internal/encode"
	"github.com/lirios/ostree-upload/test/must"
)

// TestRejectedLog pins that a pack of many bad objects, which may be some bytes of zstd, does
// not fill the log.
func TestRejectedLog(t *testing.T) {
	f := newFixture(t)
	var log bytes.Buffer
	f.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	w, err := encode.NewWriter(1<<20, zstd.SpeedDefault)
	must.OK(t, err)
	for i := range byte(20) {
		name, b := dirmeta(t, i)
		f.add(name)
		b[0]++
		must.OK(t, w.Frame(name, encode.Archive, int64(len(b))))
		_, err := w.Write(b)
		must.OK(t, err)
	}
	pack, err := w.Close()
	must.OK(t, err)
	f.send("bad", len(pack), pack)
	f.wait()
	if n := f.counts().Rejected; n != 20 {
		t.Errorf("%d objects are rejected", n)
	}
	if n := strings.Count(log.String(), "rejected"); n != 2 || !strings.Contains(log.String(), "objects=19") {
		t.Errorf("%d lines of the log:\n%s", n, &log)
	}
}
