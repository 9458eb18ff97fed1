// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/lirios/ostree-upload/internal/delta"
	"github.com/lirios/ostree-upload/internal/encode"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	build "github.com/lirios/ostree-upload/test/objects"
	ts "github.com/lirios/ostree-upload/test/server"
)

// deflated is frames as a pack of the second kind.
func deflated(t testing.TB, frames []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil, append([]zstd.EOption{zstd.WithEncoderConcurrency(1)}, opts...)...)
	must.OK(t, err)
	return z.EncodeAll(frames, []byte(encode.Magic))
}

// archived is objects as frames of encoding 0.
func archived(objects ...build.Object) (b []byte) {
	for _, o := range objects {
		b = append(b, frame(typeOf(o), encode.Archive, o.Sum[:], uint64(len(o.Bytes)), o.Bytes)...)
	}
	return b
}

func typeOf(o build.Object) byte {
	n, err := ostree.ParseName(o.Name())
	if err != nil {
		panic(err)
	}
	return byte(n.Type)
}

// head is what stands before the content of a file.
func head(f *build.File) []byte {
	o := f.Object()
	return o.Bytes[:8+binary.BigEndian.Uint32(o.Bytes)]
}

// sourced is the head of a difference's payload, and what is of it.
func sourced(file, commit []byte, size uint64, rest ...[]byte) []byte {
	b := slices.Concat(file, commit)
	return slices.Concat(append([][]byte{binary.AppendUvarint(b, size)}, rest...)...)
}

// A sharedCase is a packCase in whose repository there is a commit with a file that
// differences can be of.
type sharedCase struct {
	*packCase
	old        *build.File
	oldSum     []byte
	oldCommit  []byte
	target     *build.File // what bad is
	difference []byte      // what makes it of old
}

const oldContent = "an old content that is long enough for a window of sixteen bytes, and then some more of it"

// openShared publishes old, and opens a session for bad.
func (x hostile) openShared(t *testing.T, i int) *sharedCase {
	t.Helper()
	c := &sharedCase{old: build.SoundFile(oldContent)}
	o := c.old.Object()
	sum, others := build.CommitOf(o, "old")
	if x.server.Ref("old") == "" {
		id := x.Open(wire.Ref{Ref: "old", New: hex.EncodeToString(sum[:])}).ID
		x.Negotiate(id, namesOf(t, append(others, o)...)...)
		x.Upload(id, "old", packOf(t, append(others, o)...))
		x.publishes(t, id, "old", hex.EncodeToString(sum[:]))
	}
	c.packCase = x.openPack(t, i)
	c.oldSum, c.oldCommit = o.Sum[:], sum[:]
	c.target = build.SoundFile("bad " + strings.TrimPrefix(c.ref, "pack/"))
	var b bytes.Buffer
	must.OK(t, delta.NewEncoder().Encode(&b, strings.NewReader(oldContent), int64(len(oldContent)), bytes.NewReader(c.target.Content), int64(len(c.target.Content))))
	c.difference = b.Bytes()
	return c
}

// payload is that of bad as a sound difference, changed.
func (c *sharedCase) payload() []byte {
	return sourced(c.oldSum, c.oldCommit, uint64(len(oldContent)), head(c.target), c.difference)
}

// TestSharedPacks pins what becomes of a pack of the second kind with one frame of each
// kind between two sound ones, and that the session goes on and publishes.
func TestSharedPacks(t *testing.T) {
	inMemory(t)
	s := ts.Start(t, "archive")
	x := hostile{s, s.Client(s.Token)}
	const file = byte(ostree.File)
	bad := func(encoding byte, payload func(c *sharedCase) []byte) func(c *sharedCase) []byte {
		return func(c *sharedCase) []byte {
			b := payload(c)
			return frame(file, encoding, c.bad.Sum[:], uint64(len(b)), b)
		}
	}
	content := func(c *sharedCase) []byte { return slices.Concat(head(c.target), c.target.Content) }
	zeros := make([]byte, 32)
	for i, tt := range []struct {
		name    string
		frame   func(c *sharedCase) []byte
		lacking string
		reason  string
	}{
		{"archive", bad(0, func(c *sharedCase) []byte { return c.bad.Bytes }), "", ""},
		{"content", bad(1, content), "", ""},
		{"difference", bad(2, (*sharedCase).payload), "", ""},
		{"the same twice", func(c *sharedCase) []byte {
			b := bad(2, (*sharedCase).payload)(c)
			return slices.Concat(b, b)
		}, "", ""},
		{"encoding 3", bad(3, content), "bad", "unknown encoding 3"},
		{"encoding 255", bad(255, content), "bad", "unknown encoding 255"},
		{"type 0", func(c *sharedCase) []byte { return frame(0, 1, c.bad.Sum[:], 1, []byte{1}) }, "bad after", ""},
		{"content of metadata", func(c *sharedCase) []byte {
			return frame(byte(ostree.DirTree), 1, c.bad.Sum[:], 1, []byte{1})
		}, "bad", ""},
		{"length of 63 bits", func(c *sharedCase) []byte { return frame(file, 1, c.bad.Sum[:], 1<<63, nil) }, "bad after", ""},
		{"length beyond the pack", func(c *sharedCase) []byte { return frame(file, 1, c.bad.Sum[:], 1<<20, content(c)) }, "bad after", "content has"},
		{"no content", bad(1, func(c *sharedCase) []byte { return nil }), "bad", "it ends before its header"},
		{"content too short", bad(1, func(c *sharedCase) []byte { b := content(c); return b[:len(b)-1] }), "bad", "content has"},
		{"content too long", bad(1, func(c *sharedCase) []byte { return append(content(c), 0) }), "bad", "content has"},
		{"content of another", bad(1, func(c *sharedCase) []byte {
			b := content(c)
			b[len(b)-1]++
			return b
		}), "bad", "its content checksum is"},
		{"a size of 64 bits", bad(2, func(c *sharedCase) []byte {
			f := *c.target
			f.Size = 1<<64 - 1
			return sourced(c.oldSum, c.oldCommit, uint64(len(oldContent)), head(&f), c.difference)
		}), "bad", "size says 18446744073709551615"},
		{"difference of another", bad(2, func(c *sharedCase) []byte {
			b := c.payload()
			b[len(b)-1]++
			return b
		}), "bad", "its content checksum is"},
		{"difference cut", bad(2, func(c *sharedCase) []byte { b := c.payload(); return b[:len(b)-1] }), "bad", "its difference ends early"},
		{"difference without operations", bad(2, func(c *sharedCase) []byte { b := c.payload(); return b[:len(b)-len(c.difference)] }), "bad", "its difference ends early"},
		{"something after a difference", bad(2, func(c *sharedCase) []byte { return append(c.payload(), 0) }), "bad", "something follows its difference"},
		{"a difference of nothing", bad(2, func(c *sharedCase) []byte { return c.oldSum }), "bad", "does not say of which content it is"},
		{"a source that is not there", bad(2, func(c *sharedCase) []byte {
			return sourced(zeros, c.oldCommit, 9, head(c.target), c.difference)
		}), "bad", "no-source: "},
		{"a commit that is not there", bad(2, func(c *sharedCase) []byte {
			return sourced(c.oldSum, zeros, uint64(len(oldContent)), head(c.target), c.difference)
		}), "bad", "no-source: "},
		{"a source of another size", bad(2, func(c *sharedCase) []byte {
			return sourced(c.oldSum, c.oldCommit, 9, head(c.target), c.difference)
		}), "bad", "no-source: "},
		{"a source of 64 bits", bad(2, func(c *sharedCase) []byte {
			return sourced(c.oldSum, c.oldCommit, 1<<63, head(c.target), c.difference)
		}), "bad", "its source is said to have"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := x.openShared(t, i)
			frames := slices.Concat(archived(c.before), tt.frame(c), archived(c.after))
			c.check(t, deflated(t, frames), tt.lacking, tt.reason)
		})
	}
}

// TestSharedStreams pins what becomes of streams that are damaged, or claim too much.
func TestSharedStreams(t *testing.T) {
	inMemory(t)
	s := ts.Start(t, "archive")
	x := hostile{s, s.Client(s.Token)}
	// A frame of zstd that claims a window, and then has a block of one zero byte.
	window := func(descriptor byte) []byte { return []byte{0x28, 0xb5, 0x2f, 0xfd, 0, descriptor, 3, 0, 0, 0} }
	for i, tt := range []struct {
		name    string
		pack    func(whole []byte, c *sharedCase) []byte
		lacking string
	}{
		{"whole", func(b []byte, _ *sharedCase) []byte { return b }, ""},
		{"in two streams", func(_ []byte, c *sharedCase) []byte {
			return slices.Concat(deflated(t, archived(c.before)), deflated(t, archived(c.bad))[len(encode.Magic):])
		}, ""},
		{"a large window", func(_ []byte, c *sharedCase) []byte {
			pack := bytes.NewBufferString(encode.Magic)
			z, err := zstd.NewWriter(pack, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(encode.MaxWindow))
			must.OK(t, err)
			_, err = z.Write(archived(c.before, c.bad))
			must.OK(t, err)
			must.OK(t, z.Flush()) // else it is known to be short
			must.OK(t, z.Close())
			return pack.Bytes()
		}, ""},
		{"a window of 2 GiB", func(b []byte, _ *sharedCase) []byte { return slices.Concat(b[:8], window(21<<3), b[8:]) }, "before bad"},
		{"a window of 128 MiB and a bit", func(b []byte, _ *sharedCase) []byte { return slices.Concat(b[:8], window(17<<3|1), b[8:]) }, "before bad"},
		{"a dictionary", func(b []byte, _ *sharedCase) []byte {
			return slices.Concat(b[:8], []byte{0x28, 0xb5, 0x2f, 0xfd, 1, 0, 7, 3, 0, 0, 0}, b[8:])
		}, "before bad"},
		{"only the magic", func(b []byte, _ *sharedCase) []byte { return b[:8] }, "before bad"},
		{"no stream", func(b []byte, _ *sharedCase) []byte { return append(b[:8:8], "no stream at all, and that is so"...) }, "before bad"},
		{"a skippable frame before", func(b []byte, _ *sharedCase) []byte {
			return slices.Concat(b[:8], []byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}, b[8:])
		}, ""},
		{"an empty stream", func(b []byte, _ *sharedCase) []byte { return deflated(t, nil, zstd.WithZeroFrames(true)) }, "before bad"},
		{"noise after it", func(b []byte, _ *sharedCase) []byte { return append(slices.Clone(b), "noise"...) }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := x.openShared(t, 100+i)
			whole := deflated(t, archived(c.before, c.bad))
			c.check(t, tt.pack(whole, c), strings.TrimSpace(tt.lacking+" after"), "")
		})
	}
}

// TestSharedPackCut pins that each frame counts that is whole in what arrived of a pack.
func TestSharedPackCut(t *testing.T) {
	inMemory(t)
	s := ts.Start(t, "archive")
	x := hostile{s, s.Client(s.Token)}
	c := x.openShared(t, 0)
	noise := make([]byte, 600<<10)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(noise)
	large := build.SoundFile(string(noise)).Object()
	x.Negotiate(c.session, namesOf(t, large)...)
	pack := deflated(t, archived(c.before, large, c.bad))
	x.Want(201, "POST", "/files/", nil, "Upload-Length", "1000000", "Upload-Metadata", ts.Metadata("session", c.session, "pack", "cut"), "Tus-Resumable", "1.0.0")
	x.Patch(c.session, "cut", 0, pack[:len(pack)/2])
	x.Want(200, "POST", "/api/v1/sessions/"+c.session+"/salvage", nil)
	if got := c.lacking(t); got != "bad after" {
		t.Errorf("lacking %q of a pack that was cut", got)
	}
}

// TestSharedBomb pins that a stream that inflates for ever is given up, and that what
// came before counts.
func TestSharedBomb(t *testing.T) {
	inMemory(t)
	s := ts.Start(t, "archive")
	x := hostile{s, s.Client(s.Token)}
	c := x.openShared(t, 0)
	pack := bytes.NewBufferString(encode.Magic)
	z, err := zstd.NewWriter(pack, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	must.OK(t, err)
	_, err = z.Write(slices.Concat(archived(c.before), frame(byte(ostree.File), 1, c.bad.Sum[:], encode.MaxInflated, nil)))
	must.OK(t, err)
	zeros := make([]byte, 1<<20)
	for range encode.MaxInflated/len(zeros) + 1 {
		_, err := z.Write(zeros)
		must.OK(t, err)
	}
	must.OK(t, z.Close())
	c.check(t, pack.Bytes(), "bad after", "it is not in the normal form")
}

// TestForeignSource pins that a token cannot have differences applied to files of refs
// that it may not push: what comes out would tell what is in them.
func TestForeignSource(t *testing.T) {
	inMemory(t)
	s := ts.Start(t, "archive")
	hostile{s, s.Client(s.Token)}.openShared(t, 0)
	other := s.Client(s.AddToken(token.Options{Name: "packer", Refs: []string{"pack/**"}}))
	x := hostile{s, other}
	c := &sharedCase{old: build.SoundFile(oldContent)}
	o := c.old.Object()
	sum, _ := build.CommitOf(o, "old")
	c.packCase = x.openPack(t, 1)
	c.oldSum, c.oldCommit, c.target = o.Sum[:], sum[:], build.SoundFile("bad 1")
	var b bytes.Buffer
	must.OK(t, delta.NewEncoder().Encode(&b, strings.NewReader(oldContent), int64(len(oldContent)), bytes.NewReader(c.target.Content), int64(len(c.target.Content))))
	c.difference = b.Bytes()
	p := c.payload()
	c.check(t, deflated(t, frame(byte(ostree.File), 2, c.bad.Sum[:], uint64(len(p)), p)), "before bad after", "no-source: ")
}

// TestForeignOld pins that a session gets no right to read a commit by saying that a ref of
// its own is there.
func TestForeignOld(t *testing.T) {
	inMemory(t)
	s := ts.Start(t, "archive")
	c := hostile{s, s.Client(s.Token)}.openShared(t, 0)
	x := hostile{s, s.Client(s.AddToken(token.Options{Name: "packer", Refs: []string{"mine/**"}}))}
	for _, ref := range []string{"mine/new", "mine/other"} {
		id := x.Open(wire.Ref{Ref: ref, Old: hex.EncodeToString(c.oldCommit), New: c.sum}).ID
		x.Negotiate(id, named(t, c.bad))
		p := c.payload()
		x.Upload(id, "guess", deflated(t, frame(byte(ostree.File), 2, c.bad.Sum[:], uint64(len(p)), p)))
		if lacking := x.Negotiate(id, named(t, c.bad)); len(lacking) != 1 {
			t.Errorf("%s: a difference of a foreign file was applied", ref)
		}
		if p := x.Session(id).Problems; len(p) != 1 || !strings.HasPrefix(p[0].Reason, "no-source: ") {
			t.Errorf("%s: problems %+v", ref, p)
		}
	}
}

// TestSharedMetas pins how much detached metadata a pack may bring: it is held in memory
// until all of the pack is recorded, and a few bytes of zstd may be megabytes of it.
func TestSharedMetas(t *testing.T) {
	inMemory(t)
	s := ts.Start(t, "archive")
	x := hostile{s, s.Client(s.Token)}
	c := x.openShared(t, 0)
	meta := build.Dict(build.Item("a", "ay", build.Bytes(make([]byte, 1<<20-100)...))).Bytes
	var frames []byte
	var names []ostree.Name
	for i := range 30 {
		sum := ostree.Checksum{byte(i), 1}
		names = append(names, ostree.Name{Checksum: sum, Type: ostree.CommitMeta})
		frames = append(frames, frame(byte(ostree.CommitMeta), 0, sum[:], uint64(len(meta)), meta)...)
	}
	x.Negotiate(c.session, names...)
	before := x.Session(c.session).Objects.Staged
	x.Upload(c.session, "metas", deflated(t, frames))
	x.Negotiate(c.session, names...)
	if n := x.Session(c.session).Objects.Staged - before; n != 16 {
		t.Errorf("%d of 30 MiB of detached metadata count", n)
	}
}
