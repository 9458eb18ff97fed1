// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// stream reads large content of a bare repository as filez, converting piece by
// piece. Seeking back starts over; seeking forward converts and drops.
type stream struct {
	ctx    context.Context
	repo   *Repo
	name   Name
	path   string
	header *FileHeader
	size   int64

	file *file
	conv *converter
	done bool  // the conversion is complete, conv.out may hold the rest
	made int64 // position in the filez of conv.out's first byte
	want int64 // position that the next Read is asked for
}

func (s *stream) restart() error {
	f, err := openFile(s.ctx, s.path)
	if err != nil {
		return fmt.Errorf("object %s: %w", s.name, err)
	}
	_ = s.Close() // it was only read
	s.file, s.conv = f, s.repo.converter()
	s.conv.start(s.header)
	s.done, s.made = false, 0
	return nil
}

// Close may be called twice.
func (s *stream) Close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.repo.converters.Put(s.conv)
	s.file, s.conv = nil, nil
	return err
}

func (s *stream) Read(p []byte) (int, error) {
	if s.file == nil {
		return 0, fmt.Errorf("object %s: %w", s.name, os.ErrClosed)
	}
	if s.want < s.made {
		if err := s.restart(); err != nil {
			return 0, err
		}
	}
	for {
		if n := int64(s.conv.out.Len()); s.made < s.want {
			s.skip(min(n, s.want-s.made))
		}
		if s.conv.out.Len() > 0 {
			break
		}
		if s.done {
			return 0, s.atEnd()
		}
		if err := s.step(); err != nil {
			return 0, err
		}
	}
	n, _ := s.conv.out.Read(p)
	s.made += int64(n)
	s.want = s.made
	return n, nil
}

func (s *stream) skip(n int64) {
	s.conv.out.Next(int(n))
	s.made += n
}

func (s *stream) step() (err error) {
	s.done, err = s.conv.step(s.file)
	if err != nil {
		return fmt.Errorf("object %s: %w", s.name, err)
	}
	if !s.done {
		return nil
	}
	return s.conv.check(s.name)
}

// atEnd is io.EOF if this pass made as many bytes as the first.
func (s *stream) atEnd() error {
	if s.made != s.size {
		return fmt.Errorf("object %s: %w", s.name, errChanged)
	}
	return io.EOF
}

// Seek implements io.Seeker; the work is left to the next Read.
func (s *stream) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.want
	case io.SeekEnd:
		offset += s.size
	}
	if offset < 0 {
		return s.want, errors.New("seek before the start of an object")
	}
	s.want = offset
	return offset, nil
}
