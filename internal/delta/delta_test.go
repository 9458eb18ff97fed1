// SPDX-License-Identifier: AGPL-3.0-or-later

package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/lirios/ostree-upload/test/must"
)

// encoded is the difference that e makes.
func encoded(t testing.TB, e *Encoder, source, target []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	must.OK(t, e.Encode(&b, bytes.NewReader(source), int64(len(source)), bytes.NewReader(target), int64(len(target))))
	return b.Bytes()
}

// decoded is what d makes of a difference.
func decoded(d *Decoder, difference, source []byte, size int) ([]byte, error) {
	var b bytes.Buffer
	err := d.Decode(&b, bytes.NewReader(difference), bytes.NewReader(source), int64(len(source)), int64(size))
	return b.Bytes(), err
}

// checkPair pins that the difference of two contents makes the second of the first.
func checkPair(t testing.TB, e *Encoder, d *Decoder, source, target []byte) []byte {
	t.Helper()
	difference := encoded(t, e, source, target)
	made, err := decoded(d, difference, source, len(target))
	must.OK(t, err)
	if !bytes.Equal(made, target) {
		t.Fatalf("source of %d bytes: made %d bytes that are not the target's %d", len(source), len(made), len(target))
	}
	return difference
}

// random is bytes that nothing else is like.
func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// edited is b after some changes of the kinds that compilers and people make.
func edited(r *rand.Rand, b []byte) []byte {
	b = slices.Clone(b)
	for range r.IntN(12) {
		at, n := r.IntN(len(b)+1), r.IntN(1+len(b)/4)
		end := min(len(b), at+n)
		switch r.IntN(6) {
		case 0: // addresses move
			for i := at; i+4 <= end; i += 5 + r.IntN(40) {
				binary.LittleEndian.PutUint32(b[i:], binary.LittleEndian.Uint32(b[i:])+64)
			}
		case 1:
			b = slices.Insert(b, at, random(r, n)...)
		case 2:
			b = slices.Delete(b, at, end)
		case 3: // a part moves
			moved := slices.Clone(b[at:end])
			b = slices.Delete(b, at, end)
			b = slices.Insert(b, r.IntN(len(b)+1), moved...)
		case 4:
			b = slices.Insert(b, at, make([]byte, n)...)
		case 5: // a part comes again
			b = slices.Insert(b, at, slices.Clone(b[at:end])...)
		}
	}
	return b
}

// TestEncodeDecode pins that what was encoded decodes to the target, whatever the two
// are, also with a window and blocks that are smaller than they are.
func TestEncodeDecode(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	d := new(Decoder)
	whole, parts := NewEncoder(), &Encoder{window: 3000, block: 1100}
	for range 300 {
		source := random(r, r.IntN(20_000))
		target := edited(r, source)
		for _, e := range []*Encoder{whole, parts} {
			checkPair(t, e, d, source, target)
			checkPair(t, e, d, target, source)
		}
	}
	for _, tt := range [][2]string{{"", ""}, {"", "new"}, {"old", ""}, {"a", "b"}, {strings.Repeat("a", 5000), strings.Repeat("a", 4000)}, {strings.Repeat("ab", 5000), strings.Repeat("ba", 6000)}} {
		checkPair(t, whole, d, []byte(tt[0]), []byte(tt[1]))
		checkPair(t, parts, d, []byte(tt[0]), []byte(tt[1]))
	}
}

// TestSections pins that large content is cut into sections that a decoder takes.
func TestSections(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	source := random(r, 6<<20)
	dense := slices.Clone(source)
	for i := range dense {
		if i%3 != 0 {
			dense[i]++
		}
	}
	for name, target := range map[string][]byte{
		"all new":       random(r, 5<<20),
		"changed often": dense,
		"turned":        slices.Concat(source[3<<20:], source[:3<<20]),
	} {
		t.Run(name, func(t *testing.T) { checkPair(t, NewEncoder(), new(Decoder), source, target) })
	}
}

// TestSmall pins that little is sent of little that changed.
func TestSmall(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	source := random(r, 1<<20)
	target := slices.Insert(slices.Clone(source), 300_000, []byte("something new")...)
	target = slices.Delete(target, 700_000, 700_100)
	target[900_000]++
	if n := len(checkPair(t, NewEncoder(), new(Decoder), source, target)); n > 200 {
		t.Errorf("the difference has %d bytes", n)
	}
}

// part makes a section of columns.
func part(columns ...[]byte) []byte {
	var b []byte
	for _, c := range columns {
		b = binary.AppendUvarint(b, uint64(len(c)))
	}
	return slices.Concat(append([][]byte{b}, columns...)...)
}

// ops is a column of operations: seek, copy, insert.
func ops(list ...[3]int64) (b []byte) {
	for _, o := range list {
		b = binary.AppendVarint(b, o[0])
		b = binary.AppendUvarint(b, uint64(o[1]))
		b = binary.AppendUvarint(b, uint64(o[2]))
	}
	return b
}

func uvarints(list ...uint64) (b []byte) {
	for _, n := range list {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// TestBad pins why each difference is refused, of a source of 10 bytes and a target
// of 20.
func TestBad(t *testing.T) {
	const huge = -1 // 2^64-1 as uvarint
	endless := bytes.Repeat([]byte{0xff}, 11)
	lots := func(b []byte) []byte { return bytes.Repeat(b, 100_000) }
	for _, tt := range []struct {
		name       string
		difference []byte
		reason     string // "" if it is sound
	}{
		{"sound", part(ops([3]int64{0, 10, 10}), uvarints(3, 2, 5, 0), []byte{1, 2}, make([]byte, 10)), ""},
		{"sound, two sections", slices.Concat(part(ops([3]int64{0, 10, 0}), uvarints(10, 0), nil, nil), part(ops([3]int64{-10, 10, 0}), uvarints(10, 0), nil, nil)), ""},
		{"nothing", nil, "its difference ends early"},
		{"cut in the lengths", []byte{1, 1}, "its difference ends early"},
		{"cut in a column", part(ops([3]int64{0, 10, 10}), uvarints(10, 0), nil, make([]byte, 10))[:9], "its difference ends early"},
		{"a section too large", uvarints(MaxSection, 1, 0, 0), "a section of its difference has more than 2097152 bytes"},
		{"a length of 64 bits", uvarints(1<<63, 0, 0, 0), "a section of its difference has more than"},
		{"a length without end", endless, "a section of its difference has more than"},
		{"before the source", part(ops([3]int64{-1, 1, 0}), uvarints(1, 0), nil, nil), "reads before the start of its source"},
		{"far before the source", part(ops([3]int64{-1 << 63, 1, 0}), uvarints(1, 0), nil, nil), "reads before the start of its source"},
		{"beyond the source", part(ops([3]int64{0, 11, 0}), uvarints(11, 0), nil, nil), "reads beyond the 10 bytes of its source"},
		{"far beyond the source", part(ops([3]int64{1<<63 - 1, 1, 0}), uvarints(1, 0), nil, nil), "reads beyond the 10 bytes of its source"},
		{"beyond by a second step", part(ops([3]int64{9, 1, 0}, [3]int64{1, 1, 0}), uvarints(2, 0), nil, nil), "reads beyond the 10 bytes of its source"},
		{"a position beyond", part(ops([3]int64{11, 0, 1}), nil, nil, []byte{1}), "reads beyond the 10 bytes of its source"},
		{"a copy of 64 bits", part(ops([3]int64{0, huge, 0}), uvarints(1, 0), nil, nil), "reads beyond the 10 bytes of its source"},
		{"more than size", part(ops([3]int64{0, 10, 11}), uvarints(10, 0), nil, make([]byte, 11)), "makes more than size says"},
		{"an insert of 64 bits", part(ops([3]int64{0, 0, huge}), nil, nil, nil), "makes more than size says"},
		{"a sum of 64 bits", part(ops([3]int64{0, 1, huge}), uvarints(1, 0), nil, nil), "makes more than size says"},
		{"less than size", part(ops([3]int64{0, 10, 9}), uvarints(10, 0), nil, make([]byte, 9)), "its difference ends early"},
		{"an empty operation", part(ops([3]int64{0, 0, 0}), nil, nil, nil), "an operation of its difference makes nothing"},
		{"a lot of empty operations", part(lots(ops([3]int64{0, 0, 0})), nil, nil, nil), "an operation of its difference makes nothing"},
		{"a section without operations", part(nil, nil, nil, nil), "has no operation"},
		{"a lot of empty sections", lots(part(nil, nil, nil, nil)), "has no operation"},
		{"an empty pair of runs", part(ops([3]int64{0, 10, 10}), lots(uvarints(0, 0)), nil, make([]byte, 10)), "a pair of runs of its difference has no bytes"},
		{"a run of 64 bits", part(ops([3]int64{0, 10, 10}), uvarints(1<<64-1, 0), nil, make([]byte, 10)), "a run of its difference is longer than any file"},
		{"runs too short", part(ops([3]int64{0, 10, 10}), uvarints(9, 0), nil, make([]byte, 10)), "ends within a number"},
		{"runs too long", part(ops([3]int64{0, 10, 10}), uvarints(11, 0), nil, make([]byte, 10)), "are longer than what is copied"},
		{"unequal runs too long", part(ops([3]int64{0, 10, 10}), uvarints(9, 2), make([]byte, 2), make([]byte, 10)), "bytes are left in column 3"},
		{"runs left", part(ops([3]int64{0, 10, 10}), uvarints(10, 0, 1, 0), nil, make([]byte, 10)), "bytes are left in column 2"},
		{"differences missing", part(ops([3]int64{0, 10, 10}), uvarints(5, 5), make([]byte, 4), make([]byte, 10)), "has fewer bytes than its runs say"},
		{"differences left", part(ops([3]int64{0, 10, 10}), uvarints(10, 0), make([]byte, 1), make([]byte, 10)), "bytes are left in column 3"},
		{"inserts missing", part(ops([3]int64{0, 10, 10}), uvarints(10, 0), nil, make([]byte, 9)), "inserts bytes that it does not have"},
		{"inserts left", part(ops([3]int64{0, 10, 10}), uvarints(10, 0), nil, make([]byte, 11)), "bytes are left in column 4"},
		{"an operation cut", part(ops([3]int64{0, 10, 10})[:2], uvarints(10, 0), nil, make([]byte, 10)), "ends within a number"},
		{"a number without end", part(endless, nil, nil, nil), "a number in its difference has more than 64 bits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decoded(new(Decoder), tt.difference, make([]byte, 10), 20)
			var bad *BadError
			switch {
			case tt.reason == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.reason != "" && (!errors.As(err, &bad) || !strings.Contains(err.Error(), tt.reason)):
				t.Errorf("the error is %v, want a *BadError with %q", err, tt.reason)
			}
		})
	}
}

// TestReaderFails pins that a disk that fails is not taken for a bad difference.
func TestReaderFails(t *testing.T) {
	boom := errors.New("boom")
	source := bytes.Repeat([]byte("some source "), 100)
	difference := encoded(t, NewEncoder(), source, source)
	in := bytes.NewReader(difference)
	var bad *BadError
	err := new(Decoder).Decode(new(bytes.Buffer), in, failing{boom}, int64(len(source)), int64(len(source)))
	if !errors.Is(err, boom) || errors.As(err, &bad) {
		t.Errorf("the error of a source that fails is %v", err)
	}
	err = NewEncoder().Encode(new(bytes.Buffer), iotest.ErrReader(boom), 10, bytes.NewReader(source), int64(len(source)))
	if !errors.Is(err, boom) {
		t.Errorf("the error of old content that fails is %v", err)
	}
}

type failing struct{ error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.error }

// FuzzDecode pins that no difference makes the decoder panic, or make anything but size
// bytes without an error.
func FuzzDecode(f *testing.F) {
	f.Add(part(ops([3]int64{0, 10, 10}), uvarints(3, 2, 5, 0), []byte{1, 2}, make([]byte, 10)), uint16(10), uint16(20))
	f.Add(part(ops([3]int64{5, 5, 0}, [3]int64{-10, 10, 5}), uvarints(15, 0), nil, make([]byte, 5)), uint16(10), uint16(20))
	d := new(Decoder)
	f.Fuzz(func(t *testing.T, difference []byte, sourceSize, size uint16) {
		made, err := decoded(d, difference, make([]byte, sourceSize), int(size))
		if len(made) > int(size) || err == nil && len(made) != int(size) {
			t.Errorf("made %d of %d bytes, with error %v", len(made), size, err)
		}
	})
}

// FuzzEncode pins that what was encoded decodes to the target.
func FuzzEncode(f *testing.F) {
	f.Add([]byte("an old text of some words"), []byte("a newer text of some more words"))
	f.Add(bytes.Repeat([]byte("0123456789abcdef"), 20), bytes.Repeat([]byte("0123456789abcdeg"), 21))
	d := new(Decoder)
	f.Fuzz(func(t *testing.T, source, target []byte) {
		checkPair(t, NewEncoder(), d, source, target)
		checkPair(t, &Encoder{window: 64, block: 40}, d, source, target)
	})
}

// BenchmarkEncode encodes a program of which many addresses have moved.
func BenchmarkEncode(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 8))
	source := random(r, 8<<20)
	target := slices.Clone(source)
	for i := 0; i+4 <= len(target); i += 20 + r.IntN(40) {
		binary.LittleEndian.PutUint32(target[i:], binary.LittleEndian.Uint32(target[i:])+64)
	}
	e := NewEncoder()
	b.SetBytes(int64(len(target)))
	for b.Loop() {
		b.ReportMetric(float64(len(encoded(b, e, source, target))), "bytes")
	}
}
