// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	build "github.com/lirios/ostree-upload/test/objects"
	ts "github.com/lirios/ostree-upload/test/server"
)

// frame is one frame of a pack whose parts can be wrong.
func frame(typ, encoding byte, sum []byte, length uint64, payload []byte) []byte {
	b := append([]byte{typ, encoding}, sum...)
	return append(binary.AppendUvarint(b, length), payload...)
}

// TestHostilePacks pins what becomes of a pack with one bad frame between two
// good ones. A frame that cannot be ends the pack: what follows counts as not
// sent. After one that is only refused, the rest counts. Either way the session
// goes on and publishes.
func TestHostilePacks(t *testing.T) {
	const file = byte(ostree.File)
	endless := bytes.Repeat([]byte{0xff}, 11)
	inMemory(t)
	s := ts.Start(t, "archive")
	x := hostile{s, s.Client(s.Token)}
	for i, tt := range []struct {
		name    string
		frame   func(o build.Object) []byte
		lacking string // of the objects "before bad after"
		reason  string // why bad is rejected, "" if it just did not come
	}{
		{"sound", func(o build.Object) []byte { return frame(file, 0, o.Sum[:], uint64(len(o.Bytes)), o.Bytes) }, "", ""},
		{"type 0", func(o build.Object) []byte { return frame(0, 0, o.Sum[:], 3, o.Bytes[:3]) }, "bad after", ""},
		{"type of a tombstone", func(o build.Object) []byte { return frame(5, 0, o.Sum[:], 3, o.Bytes[:3]) }, "bad after", ""},
		{"type 7", func(o build.Object) []byte { return frame(7, 0, o.Sum[:], 3, o.Bytes[:3]) }, "bad after", ""},
		{"type 255", func(o build.Object) []byte { return frame(255, 0, o.Sum[:], 3, o.Bytes[:3]) }, "bad after", ""},
		{"type of another", func(o build.Object) []byte { return frame(2, 0, o.Sum[:], uint64(len(o.Bytes)), o.Bytes) }, "bad", ""},
		{"encoding 1", func(o build.Object) []byte { return frame(file, 1, o.Sum[:], uint64(len(o.Bytes)), o.Bytes) }, "bad", "unknown encoding 1"},
		{"encoding 255", func(o build.Object) []byte { return frame(file, 255, o.Sum[:], uint64(len(o.Bytes)), o.Bytes) }, "bad", "unknown encoding 255"},
		{"not in the set", func(build.Object) []byte {
			o := build.SoundFile("a stranger").Object()
			return frame(file, 0, o.Sum[:], uint64(len(o.Bytes)), o.Bytes)
		}, "bad", ""},
		{"nothing", func(o build.Object) []byte { return frame(file, 0, o.Sum[:], 0, nil) }, "bad", "ends before its header"},
		{"payload of another", func(o build.Object) []byte {
			b := build.SoundFile("another").Object().Bytes
			return frame(file, 0, o.Sum[:], uint64(len(b)), b)
		}, "bad", "its content checksum is"},
		{"length one too few", func(o build.Object) []byte { return frame(file, 0, o.Sum[:], uint64(len(o.Bytes)-1), o.Bytes) }, "bad after", "its deflate stream is"},
		{"length one too many", func(o build.Object) []byte { return frame(file, 0, o.Sum[:], uint64(len(o.Bytes)+1), o.Bytes) }, "bad after", "follows its deflate stream"},
		{"length beyond the end", func(o build.Object) []byte { return frame(file, 0, o.Sum[:], 1<<20, o.Bytes) }, "bad after", ""},
		{"length beyond the limit", func(o build.Object) []byte {
			return frame(file, 0, o.Sum[:], wire.MaxPackPayload+1, make([]byte, wire.MaxPackPayload+1))
		}, "bad after", ""},
		{"length of 63 bits", func(o build.Object) []byte { return frame(file, 0, o.Sum[:], 1<<63, o.Bytes) }, "bad after", ""},
		{"length without end", func(o build.Object) []byte { return slices.Concat([]byte{file, 0}, o.Sum[:], endless) }, "bad after", ""},
		{"checksum of 31 bytes", func(o build.Object) []byte { return frame(file, 0, o.Sum[:31], uint64(len(o.Bytes)), o.Bytes) }, "bad after", ""},
		{"pack within the pack", func(o build.Object) []byte { return packOf(t, o) }, "bad after", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := x.openPack(t, i)
			pack := slices.Concat(packOf(t, p.before), tt.frame(p.bad), packOf(t, p.after)[len(wire.PackMagic):])
			p.check(t, pack, tt.lacking, tt.reason)
		})
	}
}

// TestCutPacks pins that of a pack which is none, or which ends too early, what
// was whole counts.
func TestCutPacks(t *testing.T) {
	inMemory(t)
	s := ts.Start(t, "archive")
	x := hostile{s, s.Client(s.Token)}
	for i, tt := range []struct {
		name    string
		pack    func(whole []byte, first int) []byte // first is the length without the last frame
		lacking string
	}{
		{"bad magic", func(b []byte, _ int) []byte { b[7] = '2'; return b }, "before bad"},
		{"no magic", func(b []byte, _ int) []byte { return b[8:] }, "before bad"},
		{"cut magic", func(b []byte, _ int) []byte { return b[:5] }, "before bad"},
		{"only magic", func(b []byte, _ int) []byte { return b[:8] }, "before bad"},
		{"after the type", func(b []byte, first int) []byte { return b[:first+1] }, "bad"},
		{"in the checksum", func(b []byte, first int) []byte { return b[:first+20] }, "bad"},
		{"before the length", func(b []byte, first int) []byte { return b[:first+34] }, "bad"},
		{"before the payload", func(b []byte, first int) []byte { return b[:first+35] }, "bad"},
		{"in the payload", func(b []byte, _ int) []byte { return b[:len(b)-1] }, "bad"},
		{"zeros after the last", func(b []byte, _ int) []byte { return append(b, make([]byte, 50)...) }, ""},
		{"one byte after the last", func(b []byte, _ int) []byte { return append(b, 1) }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := x.openPack(t, i)
			whole := packOf(t, p.before, p.bad)
			p.check(t, tt.pack(whole, len(packOf(t, p.before))), strings.TrimSpace(tt.lacking+" after"), "")
		})
	}
}

// packCase is a session for a commit that needs bad; its set has two more
// objects, to stand before and after it.
type packCase struct {
	hostile
	before, bad, after build.Object
	others             []build.Object
	session, ref, sum  string
}

func (x hostile) openPack(t *testing.T, i int) *packCase {
	t.Helper()
	p := &packCase{hostile: x, ref: fmt.Sprint("pack/", i)}
	p.before = build.SoundFile(fmt.Sprint("before ", i)).Object()
	p.bad = build.SoundFile(fmt.Sprint("bad ", i)).Object()
	p.after = build.SoundFile(fmt.Sprint("after ", i)).Object()
	sum, others := build.CommitOf(p.bad, t.Name())
	p.others, p.sum = others, hex.EncodeToString(sum[:])
	p.session = x.Open(wire.Ref{Ref: p.ref, New: p.sum}).ID
	x.Negotiate(p.session, namesOf(t, append(others, p.before, p.bad, p.after)...)...)
	return p
}

// check sends a pack, tells by what is lacking then what counted of it, and
// publishes after all of it was sent once more.
func (p *packCase) check(t *testing.T, pack []byte, lacking, reason string) {
	t.Helper()
	before := snapshot(t, p.server.Repo)
	p.Upload(p.session, "bad", pack)
	if got := p.lacking(t); got != lacking {
		t.Errorf("lacking %q, want %q", got, lacking)
	}
	var reasons []string
	for _, problem := range p.Session(p.session).Problems {
		if problem.Object != p.bad.Name() || problem.Code != wire.BadObjects {
			t.Errorf("problem %+v", problem)
		}
		reasons = append(reasons, problem.Reason)
	}
	if (len(reasons) == 0) != (reason == "") || !strings.Contains(strings.Join(reasons, ""), reason) {
		t.Errorf("problems %q, want %q", reasons, reason)
	}
	if got := snapshot(t, p.server.Repo); !maps.Equal(got, before) {
		t.Error("the repository changed")
	}
	p.Upload(p.session, "good", packOf(t, append(p.others, p.before, p.bad, p.after)...))
	if got := p.lacking(t); got != "" {
		t.Errorf("lacking %q after the good pack", got)
	}
	p.publishes(t, p.session, p.ref, p.sum)
}

// lacking tells which of the three objects the server lacks.
func (p *packCase) lacking(t *testing.T) string {
	t.Helper()
	words := map[ostree.Name]string{named(t, p.before): "before", named(t, p.bad): "bad", named(t, p.after): "after"}
	var list []string
	for _, n := range p.Negotiate(p.session, namesOf(t, p.before, p.bad, p.after)...) {
		list = append(list, words[n])
	}
	return strings.Join(list, " ")
}

// TestBomb pins that a small upload which inflates to 1 GiB costs the server one
// buffer each time, and is refused by name.
func TestBomb(t *testing.T) {
	inMemory(t)
	s := ts.Start(t, "archive")
	x := hostile{s, s.Client(s.Token)}
	f := build.SoundFile(strings.Repeat("\x00", 10))
	good := f.Object()
	f.Deflated = build.DeflateZeros(1 << 10)
	h := build.Hostile{Case: "bomb", Object: f.Object(), Good: good.Bytes, Reason: "size says 10, its content is longer"}
	session, commit := x.refuses(t, "bomb", h)
	got, err := s.Journal.Session(session)
	must.OK(t, err)
	const uploads, buffer, others = 2, 96 << 10, 1000
	if got.Counts.Inflated > uploads*(11+buffer)+others {
		t.Errorf("the server inflated %d bytes", got.Counts.Inflated)
	}
	x.Upload(session, h.Name(), h.Good)
	x.publishes(t, session, "bomb", commit)
}
