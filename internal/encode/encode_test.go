// SPDX-License-Identifier: AGPL-3.0-or-later

package encode

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/must"
)

func name(i byte) ostree.Name { return ostree.Name{Checksum: ostree.Checksum{i}, Type: ostree.File} }

// packOf is a pack of payloads, each of which is encoded another way.
func packOf(t testing.TB, payloads ...[]byte) []byte {
	t.Helper()
	w, err := NewWriter(1<<20, zstd.SpeedDefault)
	must.OK(t, err)
	for i, p := range payloads {
		must.OK(t, w.Frame(name(byte(i)), byte(i%3), int64(len(p))))
		_, err := w.Write(p)
		must.OK(t, err)
	}
	b, err := w.Close()
	must.OK(t, err)
	return b
}

// framesOf reads the payloads of a pack, as far as frames are whole.
func framesOf(t testing.TB, pack []byte) (payloads [][]byte, ends error) {
	t.Helper()
	r, err := NewReader()
	must.OK(t, err)
	defer r.Close()
	if err := r.Reset(bytes.NewReader(pack)); err != nil {
		return nil, err
	}
	for {
		f, ok := r.Next()
		if !ok {
			return payloads, r.Err()
		}
		b, err := io.ReadAll(r)
		if r.Err() != nil {
			return payloads, r.Err()
		}
		must.OK(t, err)
		if f.Name != name(byte(len(payloads))) || f.Encoding != byte(len(payloads)%3) || f.Length != uint64(len(b)) {
			t.Errorf("frame %d is %+v with %d bytes", len(payloads), f, len(b))
		}
		payloads = append(payloads, b)
	}
}

// noise is bytes that do not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

// TestPack pins that a Reader reads what a Writer wrote, and of any first part of it
// those frames that are whole.
func TestPack(t *testing.T) {
	payloads := [][]byte{[]byte("one"), {}, noise(300_000), bytes.Repeat([]byte("word "), 100_000), []byte("last")}
	pack := packOf(t, payloads...)
	got, err := framesOf(t, pack)
	must.OK(t, err)
	if !slices.EqualFunc(got, payloads, bytes.Equal) {
		t.Errorf("got %d frames of %d, or other ones", len(got), len(payloads))
	}
	most := 0
	for cut := len(Magic); cut < len(pack); cut += 1 + len(pack)/200 {
		got, err := framesOf(t, pack[:cut])
		if len(got) < most || !slices.EqualFunc(got, payloads[:len(got)], bytes.Equal) {
			t.Errorf("cut at %d of %d bytes: %d frames", cut, len(pack), len(got))
		}
		if len(got) > 0 && len(got) < len(payloads) && err == nil {
			t.Errorf("cut at %d of %d bytes: no error", cut, len(pack))
		}
		most = max(most, len(got))
	}
	if most < 2 {
		t.Errorf("of a pack that was cut at most %d frames count", most)
	}
}

// TestReaderFails pins that a disk that fails is not taken for a pack that ends.
func TestReaderFails(t *testing.T) {
	boom := errors.New("boom")
	pack := packOf(t, noise(300_000))
	r, err := NewReader()
	must.OK(t, err)
	defer r.Close()
	must.OK(t, r.Reset(io.MultiReader(bytes.NewReader(pack[:200_000]), iotest.ErrReader(boom))))
	if _, ok := r.Next(); !ok {
		t.Fatal("no frame")
	}
	_, err = io.ReadAll(r)
	if !errors.Is(err, boom) || !errors.Is(r.Failed(), boom) {
		t.Errorf("the error is %v, and failed is %v", err, r.Failed())
	}
}

// TestWindow pins what is looked up of a stream: the largest window, and why it is
// refused.
func TestWindow(t *testing.T) {
	stream := func(window int) []byte {
		var b bytes.Buffer
		z, err := zstd.NewWriter(&b, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
		must.OK(t, err)
		_, err = z.Write(noise(3 << 20))
		must.OK(t, errors.Join(err, z.Close()))
		return b.Bytes()
	}
	small, large := stream(1<<20), stream(64<<20)
	for _, tt := range []struct {
		name   string
		stream []byte
		window int64
		err    error
	}{
		{"nothing", nil, 0, nil},
		{"small", small, 1 << 20, nil},
		{"large", large, 64 << 20, nil},
		{"large after small", slices.Concat(small, large), 64 << 20, nil},
		{"cut", large[:100], 64 << 20, nil},
		{"large after noise", slices.Concat(small, []byte("noise"), large), 1 << 20, nil},
		{"2 GiB after small", slices.Concat(small, []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0}), 0, ErrWindow},
		{"one segment of 1 GiB", []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40, 1, 0, 0}, 0, ErrWindow},
		{"a dictionary", []byte{0x28, 0xb5, 0x2f, 0xfd, 1, 0, 7, 1, 0, 0}, 0, ErrDictionary},
	} {
		window, err := Window(bytes.NewReader(tt.stream))
		if window != tt.window || err != tt.err {
			t.Errorf("%s: window %d, error %v", tt.name, window, err)
		}
	}
	boom := errors.New("boom")
	if _, err := Window(iotest.ErrReader(boom)); !errors.Is(err, boom) {
		t.Errorf("the error of a reader that fails is %v", err)
	}
}

// FuzzPack pins that no pack makes a Reader panic, hold more than its window or go on
// for ever.
func FuzzPack(f *testing.F) {
	f.Add(packOf(f, []byte("one"), noise(100)))
	f.Add([]byte(Magic))
	f.Add(append(packOf(f, []byte("one")), 0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 1))
	r, err := NewReader()
	must.OK(f, err)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r.Reset(bytes.NewReader(b)) != nil {
			return
		}
		if window, err := Window(bytes.NewReader(b[len(Magic):])); err != nil || window > 1<<20 {
			return // the server decodes none of these, or few at a time
		}
		frames := 0
		for {
			fr, ok := r.Next()
			if !ok {
				break
			}
			frames++
			if fr.Encoding == Delta {
				_, _ = r.Source()
			}
			n, _ := io.Copy(io.Discard, r)
			if uint64(n) > fr.Length || frames > MaxFrames {
				t.Fatalf("frame %d has %d bytes of %d", frames, n, fr.Length)
			}
		}
		if r.Failed() != nil {
			t.Fatalf("failed: %v", r.Failed())
		}
	})
}
