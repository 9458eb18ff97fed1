// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"github.com/klauspost/compress/flate"
)

// Content up to smallContent bytes is converted once, in memory; larger content
// is compressed twice, first to learn the length, so that it never has to be in
// memory or in a temporary file.
const (
	smallContent = 4 << 20
	convertLevel = 5
	chunkSize    = 64 << 10
)

// errMismatch is the reason when all could be read but is not what it was: the disk
// is to blame, or someone wrote into a checkout that shares the file.
const errMismatch = "the file on disk does not match its checksum"

// convert returns how to read content of a bare repository as filez.
func (r *Repo) convert(ctx context.Context, n Name, path string, info fs.FileInfo) (*Object, error) {
	h, err := r.bareHeader(n, path, info)
	if err != nil {
		return nil, err
	}
	c := r.converter()
	defer r.converters.Put(c)
	c.start(h)
	if h.symlink() {
		return c.finish(n, nil)
	}
	f, err := openFile(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", n, err)
	}
	defer f.Close()
	if h.Size <= smallContent {
		return c.small(n, f)
	}
	return c.large(ctx, r, n, path, f)
}

// converter makes filez out of a header and content. The deflate writer alone
// is more than 1 MiB, hence the pool.
type converter struct {
	repo    *Repo
	out     bytes.Buffer // what was made and not taken yet
	deflate *flate.Writer
	sum     hash.Hash
	chunk   []byte
	header  *FileHeader
	read    uint64 // bytes of content so far
}

func (r *Repo) converter() *converter {
	if c, ok := r.converters.Get().(*converter); ok {
		return c
	}
	c := &converter{repo: r, sum: sha256.New(), chunk: make([]byte, chunkSize)}
	c.deflate, _ = flate.NewWriter(io.Discard, convertLevel) // fails for unknown levels only
	return c
}

// start begins an object: its header, and the checksum over that.
func (c *converter) start(h *FileHeader) {
	c.header, c.read = h, 0
	c.out.Reset()
	head := appendFilezHeader(nil, h)
	c.out.Write(head)
	c.sum.Reset()
	c.sum.Write(appendContentHeader(nil, head[8:]))
	c.deflate.Reset(&c.out)
}

var errChanged = errors.New("it changed while it was read")

// step converts the next piece of f; done is true after the last.
func (c *converter) step(f io.Reader) (done bool, err error) {
	n, err := io.ReadFull(f, c.chunk)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return false, err
	}
	c.read += uint64(n)
	if c.read > c.header.Size {
		return false, errChanged
	}
	c.sum.Write(c.chunk[:n])
	if _, err := c.deflate.Write(c.chunk[:n]); err != nil {
		return false, err
	}
	if n == len(c.chunk) {
		return false, nil
	}
	if c.read != c.header.Size {
		return false, errChanged
	}
	return true, c.end()
}

// end closes the deflate stream. An empty file gets the two bytes that zlib
// writes, which servers insist on.
func (c *converter) end() error {
	if c.header.Size == 0 {
		c.out.Write(emptyDeflate[:])
		return nil
	}
	return c.deflate.Close()
}

// check compares the checksum of all that was converted.
func (c *converter) check(n Name) error {
	if sum := Checksum(c.sum.Sum(nil)); sum != n.Checksum {
		return c.repo.mismatch(n)
	}
	return nil
}

// finish makes an Object of what is in memory.
func (c *converter) finish(n Name, err error) (*Object, error) {
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", n, err)
	}
	if err := c.check(n); err != nil {
		return nil, err
	}
	b := bytes.Clone(c.out.Bytes())
	open := func() (io.ReadCloser, error) { return memory{bytes.NewReader(b)}, nil }
	return &Object{Name: n, Size: int64(len(b)), Open: open}, nil
}

// memory is a bytes.Reader with nothing to close.
type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

func (c *converter) small(n Name, f io.Reader) (*Object, error) {
	for {
		if done, err := c.step(f); done || err != nil {
			return c.finish(n, err)
		}
	}
}

// large runs the first pass: checksum, length and digest.
func (c *converter) large(ctx context.Context, r *Repo, n Name, path string, f io.Reader) (*Object, error) {
	var size int64
	digest := sha256.New()
	for done := false; !done; {
		var err error
		if done, err = c.step(f); err != nil {
			return nil, fmt.Errorf("object %s: %w", n, err)
		}
		size += int64(c.out.Len())
		digest.Write(c.out.Bytes())
		c.out.Reset()
	}
	if err := c.check(n); err != nil {
		return nil, err
	}
	h := c.header
	open := func() (io.ReadCloser, error) {
		s := &stream{ctx: ctx, repo: r, name: n, path: path, header: h, size: size}
		if err := s.restart(); err != nil {
			return nil, err
		}
		return s, nil
	}
	return &Object{Name: n, Size: size, Open: open, Digest: digest.Sum(nil)}, nil
}
