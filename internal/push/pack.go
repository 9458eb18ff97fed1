// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// A content is the bytes of one upload, a pack or a single object, made while
// they are read: it holds frame headers, and opens each object when its turn
// comes. So a pack of a repository in archive mode takes next to no memory.
//
// Read fills the whole buffer while there is more and returns no bytes together
// with io.EOF, as client.Uploader needs. Not for concurrent use.
type content struct {
	parts []part
	size  int64

	pos  int64
	open io.ReadCloser // the object at pos, read up to pos; nil: none
	err  error         // why an object could not be read; it stays
}

// A part is an object and what stands before it.
type part struct {
	start  int64 // of prefix, in the content
	prefix []byte
	object *ostree.Object
}

func (p *part) payload() int64 { return p.start + int64(len(p.prefix)) }
func (p *part) end() int64     { return p.payload() + p.object.Size }

// newPack starts a pack without objects.
func newPack() *content { return &content{} }

// newSingle is the content of an upload of one object.
func newSingle(o *ostree.Object) *content {
	return &content{parts: []part{{object: o}}, size: o.Size}
}

// add appends o's frame.
func (c *content) add(o *ostree.Object) {
	var prefix []byte
	if len(c.parts) == 0 {
		prefix = []byte(wire.PackMagic)
	}
	p := part{start: c.size, object: o, prefix: wire.AppendFrameHeader(prefix, o.Name, o.Size)}
	c.parts = append(c.parts, p)
	c.size = p.end()
}

// fits reports whether o's frame fits into a pack of about so many bytes: always into an
// empty one.
func (c *content) fits(o *ostree.Object, target int64) bool {
	return len(c.parts) == 0 || c.size+wire.MaxFrameHeader+o.Size <= target && len(c.parts) < wire.PackFrames
}

// Read fills p, or as much of it as there is left.
func (c *content) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n := 0
	for n < len(p) && c.pos < c.size {
		m, err := c.step(p[n:])
		n += m
		c.pos += int64(m)
		if err != nil {
			c.err = err
			return n, err
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// step reads from the part at pos, and not beyond it.
func (c *content) step(p []byte) (int, error) {
	at := &c.parts[sort.Search(len(c.parts), func(i int) bool { return c.parts[i].end() > c.pos })]
	if c.pos < at.payload() {
		return copy(p, at.prefix[c.pos-at.start:]), nil
	}
	if err := c.openAt(at); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(c.open, p[:min(int64(len(p)), at.end()-c.pos)])
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("it ends before its %d bytes", at.object.Size)
		}
		return n, c.readError(at, err)
	}
	if c.pos+int64(n) == at.end() {
		_ = c.closeOpen() // it was only read
	}
	return n, nil
}

// openAt has the object of a part open and read up to pos.
func (c *content) openAt(at *part) error {
	if c.open != nil {
		return nil
	}
	r, err := at.object.Open()
	if err != nil {
		return c.readError(at, err)
	}
	c.open = r
	skip := c.pos - at.payload()
	if skip == 0 {
		return nil
	}
	if s, ok := r.(io.Seeker); ok {
		_, err = s.Seek(skip, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, r, skip)
	}
	if err != nil {
		return c.readError(at, err)
	}
	return nil
}

func (c *content) readError(at *part, err error) error {
	return fmt.Errorf("read object %s: %w", at.object.Name, err)
}

// Seek moves to offset from the start, the only way that an upload needs.
func (c *content) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart || offset < 0 || offset > c.size {
		return c.pos, fmt.Errorf("no byte %d (from %d) in an upload of %d bytes", offset, whence, c.size)
	}
	if offset != c.pos {
		_ = c.closeOpen() // it was only read
		c.pos = offset
	}
	return offset, nil
}

// Close closes the object that is open.
func (c *content) Close() error { return c.closeOpen() }

func (c *content) closeOpen() error {
	if c.open == nil {
		return nil
	}
	err := c.open.Close()
	c.open = nil
	return err
}
