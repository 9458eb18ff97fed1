// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/lirios/ostree-upload/internal/inflate"
	build "github.com/lirios/ostree-upload/test/objects"
)

// refuses checks that b is refused as n, by both kinds of reader, for that reason.
func refuses(t *testing.T, v *Verifier, n Name, b []byte, reason string) {
	t.Helper()
	for _, r := range []io.Reader{bytes.NewReader(b), iotest.HalfReader(bytes.NewReader(b))} {
		_, err := v.Verify(n, r)
		var bad *BadObjectError
		if !errors.As(err, &bad) {
			t.Errorf("got %v, want a BadObjectError: %s", err, reason)
			continue
		}
		if bad.Object != n || !strings.Contains(bad.Reason, reason) {
			t.Errorf("got %v, want %s", err, reason)
		}
	}
}

// TestHostile pins each rule that an object must keep, most of them although its
// checksum is right: libostree does not look at many, and clients would choke.
func TestHostile(t *testing.T) {
	v := NewVerifier(build.Limit)
	seen := map[string]bool{}
	for _, h := range build.Hostiles() {
		t.Run(h.Case, func(t *testing.T) {
			n := named(t, h.Object)
			refuses(t, v, n, h.Bytes, h.Reason)
			if seen[h.Name()] {
				t.Errorf("another case has the name %s", n)
			}
			seen[h.Name()] = true
			if h.Good == nil {
				return
			}
			if _, err := v.Verify(n, bytes.NewReader(h.Good)); err != nil {
				t.Errorf("the good bytes: %v", err)
			}
		})
	}
}

// TestSound pins what lies at the edge of the rules and is allowed.
func TestSound(t *testing.T) {
	v := NewVerifier(0)
	for _, s := range build.Sounds() {
		t.Run(s.Case, func(t *testing.T) {
			if _, err := v.Verify(named(t, s.Object), bytes.NewReader(s.Bytes)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestShortFiles pins each length at which a filez can end too early, and a
// header that claims to be larger than it is.
func TestShortFiles(t *testing.T) {
	n, b := soundFile(t, "hello hello hello")
	v := NewVerifier(0)
	for i := range b {
		refuses(t, v, n, b[:i], "")
	}
	refuses(t, v, n, nil, "ends before its header")
	refuses(t, v, n, []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, "too large")
	refuses(t, v, n, []byte{0, 0x90, 0, 0, 0, 0, 0, 0, 1}, "ends within its header")
}

// TestLimits pins the sizes from which on objects are refused, and that nothing
// of no known type or of no bytes is taken.
func TestLimits(t *testing.T) {
	v := NewVerifier(4)
	file := build.SoundFile("hello").Object()
	refuses(t, v, named(t, file), file.Bytes, "size says 5, more than the 4 that an object may have")
	refuses(t, v, Name{Type: CommitMeta}, make([]byte, MaxCommitMeta+1), "larger than 1048576")
	for _, typ := range []Type{CommitObject, DirTree, DirMeta} {
		large := make([]byte, CommonMetadata+1)
		v.LimitMetadata(CommonMetadata)
		refuses(t, v, metaName(typ, large), large, "larger than 10485760")
		v.LimitMetadata(CommonMetadata + 1)
		refuses(t, v, metaName(typ, large), large, "normal form")
		refuses(t, v, metaName(typ, nil), nil, "normal form")
	}
	refuses(t, v, metaName(9, []byte{1}), []byte{1}, "type is unknown")
}

// TestBomb pins the price of a content object that inflates to far more than its
// size: what the inflater has in hand when it sees the first byte too many.
func TestBomb(t *testing.T) {
	const size, gib = 10, 1 << 30
	f := build.SoundFile(strings.Repeat("\x00", size))
	f.Deflated = build.DeflateZeros(gib >> 20)
	o := f.Object()
	var in inflate.Input
	in.Open(bytes.NewReader(f.Deflated))
	if got, err := new(inflate.Inflater).Inflate(&in, sha256.New(), gib); err != nil || got != gib {
		t.Fatalf("the stream is not of 1 GiB: %d, %v", got, err)
	}
	v := NewVerifier(0)
	const buffer = 96 << 10 // of an Inflater
	for _, r := range []io.Reader{bytes.NewReader(o.Bytes), iotest.HalfReader(bytes.NewReader(o.Bytes))} {
		inflated, err := v.Verify(named(t, o), r)
		var bad *BadObjectError
		if !errors.As(err, &bad) || bad.Reason != "size says 10, its content is longer" {
			t.Errorf("got %v", err)
		}
		if inflated <= size || inflated > size+1+buffer {
			t.Errorf("inflated %d bytes to find that there are more than %d", inflated, size)
		}
	}
}

// TestOneByteChanges pins that no byte of a real object can change. Of a filez,
// bytes of the deflate stream may differ as long as it inflates to the same:
// each compressor writes its own. Detached metadata has no checksum.
func TestOneByteChanges(t *testing.T) {
	r := sharedRepo(t)
	v := NewVerifier(0)
	for _, n := range objects(t, r) {
		b := load(t, r, n)
		if n.Type == CommitMeta || len(b) > 3000 {
			continue
		}
		for i := range b {
			changed := bytes.Clone(b)
			changed[i] ^= 1 << (i % 8)
			_, err := v.Verify(n, bytes.NewReader(changed))
			if err == nil && !(n.Type == File && sameInflated(b, changed)) {
				t.Errorf("%s: byte %d changed unnoticed", n, i)
			}
		}
		if _, err := v.Verify(n, bytes.NewReader(append(b, 0))); err == nil {
			t.Errorf("%s: a byte appended unnoticed", n)
		}
	}
}

func sameInflated(a, b []byte) bool {
	head := 8 + int(be32(a))
	x, _ := io.ReadAll(flate.NewReader(bytes.NewReader(a[head:])))
	y, err := io.ReadAll(flate.NewReader(bytes.NewReader(b[head:])))
	return err == nil && bytes.Equal(a[:head], b[:head]) && bytes.Equal(x, y)
}

// TestReaderFails pins that a failing disk is not taken for a bad object.
func TestReaderFails(t *testing.T) {
	broken := errors.New("broken disk")
	n, b := soundFile(t, strings.Repeat("hello ", 1000))
	m := build.SoundCommit().Bytes()
	v := NewVerifier(0)
	for i := range b {
		_, err := v.Verify(n, io.MultiReader(bytes.NewReader(b[:i]), iotest.ErrReader(broken)))
		var bad *BadObjectError
		if !errors.Is(err, broken) || errors.As(err, &bad) {
			t.Fatalf("after %d bytes: %v", i, err)
		}
	}
	if _, err := v.Verify(metaName(CommitObject, m), iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(m)))); !errors.Is(err, iotest.ErrTimeout) {
		t.Error(err)
	}
	if _, err := v.Verify(n, bytes.NewReader(b)); err != nil {
		t.Errorf("a Verifier does not recover: %v", err)
	}
}

// TestVerifyCounts pins what Verify says about sizes, and that it reads to the
// end from where the caller's reader stands.
func TestVerifyCounts(t *testing.T) {
	n, b := soundFile(t, "hello")
	r := bytes.NewReader(append([]byte("skipped"), b...))
	_, _ = r.Seek(7, io.SeekStart)
	if got, err := NewVerifier(5).Verify(n, r); got != 5 || err != nil || r.Len() != 0 {
		t.Errorf("%d, %v, %d left", got, err, r.Len())
	}
	m := build.SoundCommit().Bytes()
	if got, err := NewVerifier(0).Verify(metaName(CommitObject, m), bytes.NewReader(m)); got != int64(len(m)) || err != nil {
		t.Errorf("%d, %v", got, err)
	}
}
