// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"encoding/hex"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/encode"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/must"
	build "github.com/lirios/ostree-upload/test/objects"
)

// source has the fixture's repository name a commit of a file by ref x, and tells how a
// difference of the file says so.
func (f *fixture) source(content string) encode.Source {
	f.t.Helper()
	file := build.SoundFile(content).Object()
	commit, others := build.CommitOf(file, "x")
	for _, o := range append(others, file) {
		n, err := ostree.ParseName(o.Name())
		must.OK(f.t, err)
		must.OK(f.t, os.WriteFile(filepath.Join(f.cfg.Repo.Path(), "objects", n.Path()), o.Bytes, 0o644))
	}
	must.OK(f.t, os.WriteFile(filepath.Join(f.cfg.Repo.Path(), "refs/heads/x"), []byte(hex.EncodeToString(commit[:])), 0o644))
	return encode.Source{Checksum: file.Sum, Commit: commit, Size: int64(len(content))}
}

// TestSourceBounds pins that the sources which one pack has read are bounded together, and
// that they are written only while the disk has room.
func TestSourceBounds(t *testing.T) {
	f := newFixture(t)
	from := f.source("content of ref x")
	w := &worker{Store: f.Store, verifier: ostree.NewVerifier(0), task: &task{ctx: t.Context()}}
	defer func() { must.OK(t, w.close()) }()
	var err error
	w.reader, err = encode.NewReader()
	must.OK(t, err)
	open := func() (string, error) {
		w.task.since = time.Now()
		w.readable = map[ostree.Checksum]fileSet{}
		return w.openSource(&upload{session: f.session}, from)
	}
	w.sourced = encode.MaxMade - from.Size
	if reason, err := open(); reason != "" || err != nil || w.reader.Err() != nil {
		t.Errorf("the last source is refused: %q, %v, %v", reason, err, w.reader.Err())
	}
	if reason, err := open(); reason == "" || err != nil || w.reader.Err() != encode.ErrSources {
		t.Errorf("one source too many: %q, %v, %v", reason, err, w.reader.Err())
	}
	w.sourced, w.limits.MinFree = 0, math.MaxInt64
	if _, err := open(); err == nil || !strings.Contains(err.Error(), "min-free-space") {
		t.Errorf("on a full disk: %v", err)
	}
}
