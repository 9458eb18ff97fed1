// SPDX-License-Identifier: AGPL-3.0-or-later

package encode

import (
	"bytes"
	"encoding/binary"

	"github.com/klauspost/compress/zstd"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// A Writer makes a pack in memory. After Frame, as many bytes as that says are written.
type Writer struct {
	pack   bytes.Buffer
	stream *zstd.Encoder
	In     int64 // bytes before compression
}

// NewWriter makes a Writer whose streams have a window of so many bytes, a power of
// two.
func NewWriter(window int, level zstd.EncoderLevel) (*Writer, error) {
	w := new(Writer)
	var err error
	w.stream, err = zstd.NewWriter(&w.pack, zstd.WithEncoderLevel(level), zstd.WithWindowSize(window),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true))
	if err == nil {
		w.Reset()
	}
	return w, err
}

// Reset begins another pack.
func (w *Writer) Reset() {
	w.pack.Reset()
	w.pack.WriteString(Magic)
	w.stream.Reset(&w.pack)
	w.In = 0
}

// Frame begins a frame with a payload of length bytes.
func (w *Writer) Frame(n ostree.Name, encoding byte, length int64) error {
	b := append([]byte{byte(n.Type), encoding}, n.Checksum[:]...)
	_, err := w.Write(binary.AppendUvarint(b, uint64(length)))
	return err
}

// Write adds to the payload.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.stream.Write(p)
	w.In += int64(n)
	return n, err
}

// Size is how many bytes the pack has so far, but for what the encoder holds.
func (w *Writer) Size() int { return w.pack.Len() }

// Close ends the pack and returns it. It is the caller's.
func (w *Writer) Close() ([]byte, error) {
	err := w.stream.Close()
	return bytes.Clone(w.pack.Bytes()), err
}

// AppendSource appends the head of a difference's payload.
func AppendSource(dst []byte, s Source) []byte {
	dst = append(append(dst, s.Checksum[:]...), s.Commit[:]...)
	return binary.AppendUvarint(dst, uint64(s.Size))
}
