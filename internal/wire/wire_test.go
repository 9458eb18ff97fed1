// SPDX-License-Identifier: AGPL-3.0-or-later

package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
)

func name(first byte, t ostree.Type) ostree.Name {
	return ostree.Name{Checksum: ostree.Checksum{first}, Type: t}
}

func packOf(frames ...Frame) []byte {
	b := []byte(PackMagic)
	for _, f := range frames {
		b = AppendFrameHeader(b, f.Name, int64(len(f.Payload)))
		b = append(b, f.Payload...)
	}
	return b
}

func readAll(t *testing.T, b []byte) ([]ostree.Name, error) {
	t.Helper()
	r, err := ReadPack(b)
	if err != nil {
		t.Fatal(err)
	}
	var names []ostree.Name
	for {
		f, ok := r.Next()
		if !ok {
			return names, r.Err()
		}
		names = append(names, f.Name)
	}
}

// Whole frames before a cut or a frame that cannot be still count.
func TestPackFramesStandAlone(t *testing.T) {
	one := Frame{Name: name(1, ostree.File), Payload: []byte("abc")}
	two := Frame{Name: name(2, ostree.DirTree), Payload: bytes.Repeat([]byte{7}, 300)}
	whole := packOf(one, two)
	tooLong := append(packOf(one), byte(ostree.File), 0)
	tooLong = append(tooLong, make([]byte, 32)...)
	tooLong = binary.AppendUvarint(tooLong, MaxPackPayload+1)
	cases := []struct {
		name string
		pack []byte
		want []ostree.Name
		err  string
	}{
		{"empty", packOf(), nil, ""},
		{"two frames", whole, []ostree.Name{one.Name, two.Name}, ""},
		{"cut in the payload", whole[:len(whole)-1], []ostree.Name{one.Name}, "ends within the frame of 02"},
		{"cut in the length", whole[:len(packOf(one))+34], []ostree.Name{one.Name}, "ends within a frame header"},
		{"cut in the checksum", whole[:len(packOf(one))+9], []ostree.Name{one.Name}, "ends within a frame header"},
		{"unknown type", append(packOf(one), bytes.Repeat([]byte{5}, 60)...), []ostree.Name{one.Name}, "unknown type 5"},
		{"too long", tooLong, []ostree.Name{one.Name}, "longer than"},
		{"endless varint", append(packOf(one), append(append([]byte{1, 0}, make([]byte, 32)...), bytes.Repeat([]byte{0xff}, 11)...)...),
			[]ostree.Name{one.Name}, "longer than"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := readAll(t, c.pack)
			if !slices.Equal(got, c.want) {
				t.Errorf("frames %v, want %v", got, c.want)
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
	if _, err := ReadPack([]byte("OSTPACK2")); !errors.Is(err, ErrNoPack) {
		t.Errorf("other magic: %v", err)
	}
}

func TestNamesRoundTrip(t *testing.T) {
	names := []ostree.Name{name(1, ostree.File), name(2, ostree.CommitMeta)}
	got, err := ParseNames(bytes.NewReader(FormatNames(names)), 2)
	if err != nil || !slices.Equal(got, names) {
		t.Fatalf("got %v, %v", got, err)
	}
	if _, err := ParseNames(bytes.NewReader(FormatNames(names)), 1); err == nil {
		t.Error("a list over the limit is accepted")
	}
	for _, bad := range []string{"x", strings.Repeat("a", 64), strings.Repeat("A", 64) + ".filez", strings.Repeat("a", 300)} {
		if _, err := ParseNames(strings.NewReader(bad), 9); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func FuzzPack(f *testing.F) {
	f.Add(packOf(Frame{Name: name(1, ostree.File), Payload: []byte("abc")}))
	f.Add([]byte(PackMagic))
	f.Add(packOf(Frame{Name: name(1, ostree.File)}, Frame{Name: name(9, ostree.CommitObject), Payload: make([]byte, 200)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ReadPack(b)
		if err != nil {
			return
		}
		again := []byte(PackMagic)
		for {
			f, ok := r.Next()
			if !ok {
				break
			}
			if len(f.Payload) > MaxPackPayload {
				t.Fatalf("payload of %d bytes", len(f.Payload))
			}
			again = append(AppendFrameHeader(again, f.Name, int64(len(f.Payload))), f.Payload...)
		}
		if len(again) > len(b) {
			t.Fatalf("%d bytes of frames out of %d", len(again), len(b))
		}
	})
}

// Two packs, or two requests, must not share a name with an object or leave
// their folder.
func TestIDs(t *testing.T) {
	for id, want := range map[string]bool{"k3xq7mpl2wbz5aen": true, "k3xq7mpl2wbz5ae": false, "k3xq7mpl2wbz5ae1": false, "../../../../../..": false} {
		if IsSessionID(id) != want {
			t.Errorf("session ID %q: %v", id, !want)
		}
	}
	for n, want := range map[string]bool{"pack-7": true, "": false, "..": false, "A": false, "a/b": false, strings.Repeat("a", 65): false} {
		if IsPackName(n) != want {
			t.Errorf("pack name %q: %v", n, !want)
		}
	}
}
