// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// memory is an object whose bytes are b and whose Open hands them out without a
// Seeker, byte by byte: the worst reader there is.
func memory(id byte, b []byte) *ostree.Object {
	return &ostree.Object{
		Name: ostree.Name{Checksum: ostree.Checksum{id}, Type: ostree.File},
		Size: int64(len(b)),
		Open: func() (io.ReadCloser, error) {
			return io.NopCloser(iotest.OneByteReader(bytes.NewReader(b))), nil
		},
	}
}

func samplePack() (*content, map[ostree.Name][]byte) {
	random := rand.New(rand.NewPCG(1, 2))
	pack, want := newPack(), map[ostree.Name][]byte{}
	for i, size := range []int{0, 1, 127, 128, 5000, 0, 20_000} {
		b := make([]byte, size)
		for j := range b {
			b[j] = byte(random.Uint32())
		}
		o := memory(byte(i), b)
		pack.add(o)
		want[o.Name] = b
	}
	return pack, want
}

// What the lazy reader makes is what wire's reader takes, frame by frame.
func TestPackIsReadableByWire(t *testing.T) {
	pack, want := samplePack()
	got, err := io.ReadAll(pack)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(got)) != pack.size {
		t.Fatalf("pack says %d bytes and has %d", pack.size, len(got))
	}
	r, err := wire.ReadPack(got)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for f, ok := r.Next(); ok; f, ok = r.Next() {
		if !bytes.Equal(f.Payload, want[f.Name]) {
			t.Errorf("frame %s differs", f.Name)
		}
		n++
	}
	if r.Err() != nil || n != len(want) {
		t.Errorf("%d of %d frames, then %v", n, len(want), r.Err())
	}
}

// go-tus takes whatever one Read gives for the whole chunk, from any offset.
func TestPackReadFillsFromAnyOffset(t *testing.T) {
	pack, _ := samplePack()
	whole, err := io.ReadAll(pack)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		from := random.IntN(len(whole) + 1)
		p := make([]byte, 1+random.IntN(9000))
		if _, err := pack.Seek(int64(from), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		n, err := pack.Read(p)
		want := whole[from:min(from+len(p), len(whole))]
		if !bytes.Equal(p[:n], want) {
			t.Fatalf("read of %d at %d gave %d bytes, want %d", len(p), from, n, len(want))
		}
		if (n == 0) != errors.Is(err, io.EOF) || n > 0 && err != nil {
			t.Fatalf("read of %d at %d: %d bytes and %v", len(p), from, n, err)
		}
	}
}

func TestPackSeekRefusesOutside(t *testing.T) {
	pack, _ := samplePack()
	for _, offset := range []int64{-1, pack.size + 1} {
		if _, err := pack.Seek(offset, io.SeekStart); err == nil {
			t.Errorf("seek to %d of %d bytes", offset, pack.size)
		}
	}
	if _, err := pack.Seek(0, io.SeekEnd); err == nil {
		t.Error("seek from the end")
	}
}

// An object that shrank since it was listed must not be sent as if it were whole.
func TestPackNamesObjectThatShrank(t *testing.T) {
	o := memory(7, []byte("short"))
	o.Size = 10
	pack := newPack()
	pack.add(o)
	_, err := io.ReadAll(pack)
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte(o.Name.String())) {
		t.Errorf("got %v", err)
	}
	if _, again := pack.Read(make([]byte, 1)); again == nil {
		t.Error("the error did not stay")
	}
}

// A pack closes at its target, and one frame of the largest size always fits.
func TestPackStaysBelowItsLimit(t *testing.T) {
	big := memory(1, nil)
	big.Size = wire.MaxPackPayload
	pack := newPack()
	for pack.fits(big, wire.PackTarget) {
		pack.add(big)
	}
	if len(pack.parts) == 0 || pack.size > wire.PackTarget {
		t.Errorf("%d frames, %d bytes", len(pack.parts), pack.size)
	}
}
