// SPDX-License-Identifier: AGPL-3.0-or-later

package inflate

import (
	"bufio"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	kflate "github.com/klauspost/compress/flate"

	"github.com/lirios/ostree-upload/test/must"
)

// inflated returns what r inflates to, as a hash.
func inflated(z *Inflater, r io.Reader, size int64) (sum string, n int64, err error) {
	var in Input
	in.Open(r)
	h := sha256.New()
	n, err = z.Inflate(&in, h, size)
	if in.Err() != nil {
		err = in.Err()
	}
	return hex.EncodeToString(h.Sum(nil)), n, err
}

// zlibCases calls see for each line of a table that zlib made from damaged streams
// of many kinds: a stream and, if zlib takes all of it, the SHA-256 of what it
// makes, else "-".
func zlibCases(t testing.TB, see func(stream []byte, want string)) (lines int) {
	t.Helper()
	f, err := os.Open("testdata/deflate.txt")
	must.OK(t, err)
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for ; s.Scan(); lines++ {
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		stream, want, _ := strings.Cut(s.Text(), " ")
		b, err := hex.DecodeString(stream)
		must.OK(t, err)
		see(b, want)
	}
	must.OK(t, s.Err())
	return lines
}

// TestInflateAsZlib compares verdicts and output with those of zlib.
func TestInflateAsZlib(t *testing.T) {
	z := new(Inflater)
	lines := zlibCases(t, func(stream []byte, want string) {
		for _, r := range []io.Reader{bytes.NewReader(stream), iotest.OneByteReader(bytes.NewReader(stream))} {
			sum, _, err := inflated(z, r, 1<<40)
			if err != nil {
				sum = "-"
			}
			if sum != want {
				t.Fatalf("%x: %v, %s, zlib says %s", stream, err, sum, want)
			}
		}
	})
	if lines < 500 {
		t.Errorf("only %d lines", lines)
	}
}

// TestInflateForgets pins that a block without distances is not decoded by those
// of the block or the stream before.
func TestInflateForgets(t *testing.T) {
	z := new(Inflater)
	before := std(t, []byte(strings.Repeat("hello world, ", 50)+"some other words follow here, hello"), 6)
	if _, _, err := inflated(z, bytes.NewReader(before), 1<<20); err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString("2dccb10d00301083c05939efbf438a4f574224d960598668f9307dd79a445ab365edfaed260f")
	must.OK(t, err)
	if _, _, err := inflated(z, bytes.NewReader(b), 1<<20); err != errDamaged {
		t.Errorf("got %v", err)
	}
}

// TestInflateRoundTrip pins content of many shapes and sizes, around the window
// and the buffer, as two compressors write it.
func TestInflateRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	z := new(Inflater)
	for _, size := range []int{1, 258, 259, windowSize - 1, windowSize + 1, 65536, len(z.out) - 1, len(z.out), len(z.out) + 1, 300_000} {
		for kind, content := range map[string][]byte{
			"zeros":  make([]byte, size),
			"random": randomBytes(rng, size, 256),
			"skewed": randomBytes(rng, size, 3),
			"far":    farRepeats(rng, size),
		} {
			for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, 1, 6} {
				for _, b := range [][]byte{std(t, content, level), klauspost(t, content, level)} {
					if sum, n, err := inflated(z, bytes.NewReader(b), int64(size)); err != nil || n != int64(size) || sum != fmt.Sprintf("%x", sha256.Sum256(content)) {
						t.Fatalf("%s, %d bytes, level %d: %d bytes, %v", kind, size, level, n, err)
					}
					if _, _, err := inflated(z, iotest.HalfReader(bytes.NewReader(b)), int64(size)); err != nil {
						t.Fatalf("%s, %d bytes, level %d, in pieces: %v", kind, size, level, err)
					}
				}
			}
		}
	}
}

func randomBytes(rng *rand.Rand, n, kinds int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.IntN(rng.IntN(kinds) + 1))
	}
	return b
}

// farRepeats repeats pieces from as far back as deflate reaches.
func farRepeats(rng *rand.Rand, n int) []byte {
	b := randomBytes(rng, min(n, windowSize), 256)
	for len(b) < n {
		from := len(b) - windowSize
		b = append(b, b[from:min(from+4+rng.IntN(300), len(b))]...)
		b = append(b, byte(rng.IntN(256)))
	}
	return b[:n]
}

func std(t testing.TB, content []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	must.OK(t, err)
	_, err = w.Write(content)
	must.OK(t, err)
	must.OK(t, w.Close())
	return b.Bytes()
}

func klauspost(t testing.TB, content []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := kflate.NewWriter(&b, level)
	must.OK(t, err)
	_, err = w.Write(content)
	must.OK(t, err)
	must.OK(t, w.Close())
	return b.Bytes()
}

// FuzzInflate compares with the standard library, whose verdicts are zlib's.
func FuzzInflate(f *testing.F) {
	for _, s := range []string{"", "hello hello hello hello", strings.Repeat("0123456789", 300), string(randomBytes(rand.New(rand.NewPCG(3, 4)), 2000, 60))} {
		f.Add(std(f, []byte(s), 9))
	}
	zlibCases(f, func(stream []byte, _ string) { f.Add(stream) })
	z := new(Inflater)
	f.Fuzz(func(t *testing.T, b []byte) {
		const most = 1 << 20
		rest := bytes.NewReader(b)
		content, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(rest), most+1))
		if len(content) > most {
			return
		}
		want := fmt.Sprintf("%x", sha256.Sum256(content))
		for _, r := range []io.Reader{bytes.NewReader(b), iotest.OneByteReader(bytes.NewReader(b))} {
			sum, _, err := inflated(z, r, most)
			if (err == nil) != (wantErr == nil && rest.Len() == 0) || err == nil && sum != want {
				t.Errorf("got %v, %s; the standard library %v, %s, %d left", err, sum, wantErr, want, rest.Len())
			}
		}
	})
}

// BenchmarkInflate inflates text of 64 KiB that repeats itself as words do; bytes
// are inflated ones. It must allocate nothing.
func BenchmarkInflate(b *testing.B) {
	rng := rand.New(rand.NewPCG(5, 6))
	words := make([][]byte, 500)
	for i := range words {
		words[i] = randomBytes(rng, 2+rng.IntN(9), 40)
	}
	var content []byte
	for len(content) < 64<<10 {
		content = append(content, words[rng.IntN(1+rng.IntN(len(words)))]...)
	}
	deflated := std(b, content, 6)
	z, sum := new(Inflater), crc32.NewIEEE()
	var in Input
	r := bytes.NewReader(nil)
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(deflated)
		in.Open(r)
		if _, err := z.Inflate(&in, sum, int64(len(content))); err != nil {
			b.Fatal(err)
		}
	}
}
