// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/lirios/ostree-upload/internal/delta"
	"github.com/lirios/ostree-upload/internal/encode"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// How packs of the second kind are made.
const (
	sharedWindow = 16 << 20
	sharedLevel  = zstd.SpeedBestCompression
	// The first pack of an encoder has an eighth of this, so that the link has something.
	autoPack    = 4 << 20
	sharedPack  = 10 << 20             // where bytes count most: each pack begins without a past
	sharedMost  = wire.MaxPack - 2<<20 // before what the encoder holds back
	sharedInput = 128 << 20
	// plainMost is the largest file that goes into a pack without an older version. A
	// larger one goes alone, and is resumed to the byte also from another machine.
	plainMost = 8 << 20
	// differenceMost is the longest difference, before compression: it may not compress.
	differenceMost = wire.MaxPack - 1<<20
	// madeMost is how much content a server is to make of a pack, or to read for that,
	// before the pack ends: as much again may come with the last batch.
	madeMost = encode.MaxMade / 2
)

// An encoder makes packs of the second kind.
type encoder struct {
	p      *pipeline
	writer *encode.Writer
	delta  *delta.Encoder
	diff   chunks
	copied []byte
	target int   // size of the next pack
	made   int64 // content that a server makes of the differences of this one

	pack  *encoded // that was made
	plain []item   // that are better sent alone
}

// encode makes packs until there is nothing more to encode.
func (p *pipeline) encode(ctx context.Context) error {
	e := &encoder{p: p, delta: delta.NewEncoder(), copied: make([]byte, 64<<10)}
	most := sharedPack
	if p.pool.encoding == Auto {
		most = autoPack
	}
	e.target = most / 8
	for {
		first := p.pool.batch(ctx, true)
		if len(first) == 0 {
			return ctx.Err()
		}
		err := e.makePack(ctx, first)
		p.pool.done(e.pack, e.plain)
		if err != nil {
			return err
		}
		e.target = min(2*e.target, most)
	}
}

// makePack makes a pack of first and of what comes after it.
func (e *encoder) makePack(ctx context.Context, first []item) error {
	pack := new(encoded)
	e.pack, e.plain, e.made = nil, nil, 0
	if e.writer == nil {
		var err error
		if e.writer, err = encode.NewWriter(sharedWindow, sharedLevel); err != nil {
			return err
		}
	}
	e.writer.Reset()
	for batch := first; len(batch) > 0; batch = e.more(ctx, pack) {
		for _, one := range batch {
			start := time.Now()
			if err := e.frame(ctx, one, pack); err != nil {
				return e.p.run.objectError(ctx, one.name, err)
			}
			e.p.links.encoded(one.size, time.Since(start))
		}
	}
	if len(pack.names) == 0 {
		return nil
	}
	var err error
	if pack.pack, err = e.writer.Close(); err != nil {
		return err
	}
	pack.ways.settle(int64(len(pack.pack)))
	e.pack = pack
	return nil
}

// more are the next items of the pack, if it is to have any.
func (e *encoder) more(ctx context.Context, pack *encoded) []item {
	if e.writer.Size() >= e.target || e.writer.In >= sharedInput || e.made >= madeMost || len(pack.names) >= wire.PackFrames {
		return nil
	}
	return e.p.pool.batch(ctx, false)
}

// frame adds an item to the pack, or to those that go alone.
func (e *encoder) frame(ctx context.Context, one item, pack *encoded) error {
	if one.name.Type != ostree.File {
		return e.archive(ctx, one, pack)
	}
	content, err := e.p.run.repo.Content(ctx, one.name)
	if err != nil {
		return err
	}
	if !one.origin.none && content.Regular() {
		made, err := e.difference(ctx, one, content, pack)
		if made || err != nil {
			return err
		}
	}
	if one.size > plainMost || content.Size > sharedInput || int64(e.writer.Size())+one.size > sharedMost {
		e.plain = append(e.plain, one)
		return nil
	}
	return e.content(one, content, pack)
}

// archive adds metadata as it is.
func (e *encoder) archive(ctx context.Context, one item, pack *encoded) error {
	o, err := e.p.run.repo.Object(ctx, one.name)
	if err != nil {
		return err
	}
	if o.Size > wire.MaxPackPayload {
		e.plain = append(e.plain, one)
		return nil
	}
	r, err := o.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := e.writer.Frame(one.name, encode.Archive, o.Size); err != nil {
		return err
	}
	pack.add(one, encode.NameZstd, o.Size, o.Size)
	return e.copy(r, o.Size)
}

// content adds a file as it is.
func (e *encoder) content(one item, content *ostree.Content, pack *encoded) error {
	r, err := content.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := e.writer.Frame(one.name, encode.Content, int64(len(content.Head))+content.Size); err != nil {
		return err
	}
	if _, err := e.writer.Write(content.Head); err != nil {
		return err
	}
	pack.add(one, encode.NameZstd, content.Size, one.size)
	return e.copy(r, content.Size)
}

// copy adds all of r, which has so many bytes.
func (e *encoder) copy(r io.Reader, size int64) error {
	n, err := io.CopyBuffer(struct{ io.Writer }{e.writer}, r, e.copied)
	if err == nil && n != size {
		err = fmt.Errorf("it has %d bytes, and not %d as before", n, size)
	}
	return err
}

// difference adds a file as what makes it from its older version, if that is here and
// helps.
func (e *encoder) difference(ctx context.Context, one item, content *ostree.Content, pack *encoded) (bool, error) {
	old, err := e.p.run.repo.Content(ctx, ostree.Name{Checksum: one.origin.file, Type: ostree.File})
	if err != nil || !old.Regular() || old.Size > encode.MaxSource || content.Size > encode.MaxSource {
		return false, ctx.Err() // it was pruned, or the repository is shallow
	}
	made, err := e.compare(old, content)
	if err != nil || !made {
		return false, err
	}
	head := encode.AppendSource(nil, one.origin.source(old.Size))
	length := int64(len(head)+len(content.Head)) + e.diff.size
	if length > content.Size-content.Size/16 {
		return false, nil // it is as good as new
	}
	if int64(e.writer.Size())+length > sharedMost && len(pack.names) > 0 {
		e.plain = append(e.plain, one) // rare: the pack is nearly full, and this is of little use
		return true, nil
	}
	if err := e.writer.Frame(one.name, encode.Delta, length); err != nil {
		return false, err
	}
	for _, b := range [][]byte{head, content.Head} {
		if _, err := e.writer.Write(b); err != nil {
			return false, err
		}
	}
	e.made += max(old.Size, content.Size)
	pack.add(one, encode.NameDelta, length, one.size)
	return true, e.diff.writeTo(e.writer)
}

// compare makes the difference of two contents. It is false if there is none.
func (e *encoder) compare(old, content *ostree.Content) (bool, error) {
	from, err := old.Open()
	if err != nil {
		return false, nil
	}
	defer from.Close()
	to, err := content.Open()
	if err != nil {
		return false, err
	}
	defer to.Close()
	e.diff.reset(differenceMost)
	source := &failing{r: from}
	err = e.delta.Encode(&e.diff, source, old.Size, to, content.Size)
	if source.failed || errors.Is(err, errTooLong) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// The checksum is compared at the end.
	if n, err := to.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		return false, cmpError(err)
	}
	return true, nil
}

var errChanged = errors.New("it changed while it was read")

func cmpError(err error) error {
	if err == nil || err == io.EOF {
		return errChanged
	}
	return err
}

// failing notes whether the reader of old content failed.
type failing struct {
	r      io.Reader
	failed bool
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF {
		f.failed = true
	}
	return n, err
}

// chunks is a buffer that does not move as it grows.
type chunks struct {
	list [][]byte
	size int64
	most int64
}

const chunkSize = 256 << 10

var errTooLong = errors.New("the difference is too long")

func (c *chunks) reset(most int64) { c.size, c.most = 0, most }

func (c *chunks) Write(p []byte) (int, error) {
	if c.size+int64(len(p)) > c.most {
		return 0, errTooLong
	}
	for rest := p; len(rest) > 0; {
		i, at := int(c.size/chunkSize), int(c.size%chunkSize)
		if i == len(c.list) {
			c.list = append(c.list, make([]byte, chunkSize))
		}
		n := copy(c.list[i][at:], rest)
		c.size += int64(n)
		rest = rest[n:]
	}
	return len(p), nil
}

func (c *chunks) writeTo(w io.Writer) error {
	for i, left := 0, c.size; left > 0; i++ {
		n := min(left, chunkSize)
		if _, err := w.Write(c.list[i][:n]); err != nil {
			return err
		}
		left -= n
	}
	return nil
}
