// SPDX-License-Identifier: AGPL-3.0-or-later

package encode

import (
	"bufio"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Window tells the largest window of a zstd stream, without decoding it: who decodes
// it needs so much memory. It looks no further than to where the stream is cut off or
// damaged. The error says why the stream is refused, or is that of r.
func Window(r io.Reader) (int64, error) {
	in := bufio.NewReaderSize(r, 32<<10)
	var most uint64
	for {
		head, err := in.Peek(zstd.HeaderMaxSize)
		if err != nil && err != io.EOF {
			return 0, err
		}
		if len(head) == 0 {
			return int64(most), nil
		}
		var h zstd.Header
		if h.Decode(head) != nil {
			return int64(most), nil
		}
		window, err := windowOf(&h)
		if err != nil {
			return 0, err
		}
		most = max(most, window)
		if err := skipFrame(in, &h); ended(err) || err == errDamaged {
			return int64(most), nil
		} else if err != nil {
			return 0, err
		}
	}
}

// windowOf is how much of a frame's content its decoder keeps.
func windowOf(h *zstd.Header) (uint64, error) {
	window := h.WindowSize
	if h.SingleSegment {
		window = h.FrameContentSize
	}
	switch {
	case h.Skippable:
		return 0, nil
	case h.DictionaryID != 0:
		return 0, ErrDictionary
	case window > MaxWindow:
		return 0, ErrWindow
	}
	return window, nil
}

// skipFrame skips a frame of the stream by the lengths of its blocks.
func skipFrame(in *bufio.Reader, h *zstd.Header) error {
	if _, err := in.Discard(h.HeaderSize); err != nil {
		return err
	}
	if h.Skippable {
		_, err := io.CopyN(io.Discard, in, int64(h.SkippableSize))
		return err
	}
	for last := false; !last; {
		var b [3]byte
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return err
		}
		last = b[0]&1 != 0
		size := int(b[0])>>3 | int(b[1])<<5 | int(b[2])<<13
		switch b[0] >> 1 & 3 {
		case 1: // one byte, repeated
			size = 1
		case 3:
			return errDamaged
		}
		if _, err := in.Discard(size); err != nil {
			return err
		}
	}
	if h.HasCheckSum {
		_, err := in.Discard(4)
		return err
	}
	return nil
}
