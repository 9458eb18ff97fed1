// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/klauspost/compress/flate"
)

// Content says how to read a file's content as it is.
type Content struct {
	Name   Name
	Head   []byte // what an archive repository stores before the content: BE32 length, padding, header
	Size   int64
	Mode   uint32
	Stored int64 // bytes of the file that the repository keeps
	// Open starts reading it. What it returns fails at the end if the content does not
	// match the object's name, with a *BadObjectError.
	Open func() (io.ReadCloser, error)
}

// Regular tells whether it is that of a regular file; a symbolic link has none.
func (c *Content) Regular() bool { return c.Mode&modeType == modeRegular }

// Content returns how to read the content of a file, whatever the repository's mode.
// The error wraps fs.ErrNotExist if there is no such object. All reading ends with ctx.
func (r *Repo) Content(ctx context.Context, n Name) (*Content, error) {
	at, path, info, err := r.find(n)
	if err != nil {
		return nil, err
	}
	c := &Content{Name: n, Stored: info.Size()}
	h, err := c.header(at, path, info)
	if err != nil {
		return nil, err
	}
	c.Size, c.Mode = int64(h.Size), h.Mode
	c.Open = func() (io.ReadCloser, error) { return c.open(ctx, path, at.mode == ModeArchive) }
	return c, nil
}

func (c *Content) open(ctx context.Context, path string, archive bool) (io.ReadCloser, error) {
	s := &contentReader{content: c, from: strings.NewReader(""), sum: sha256.New()}
	s.sum.Write(appendContentHeader(nil, c.Head[8:]))
	if !c.Regular() {
		return s, nil // all of it is in its header
	}
	var err error
	if s.file, err = openFile(ctx, path); err != nil {
		return nil, fmt.Errorf("object %s: %w", c.Name, err)
	}
	s.from = s.file
	if archive {
		if err := s.inflate(); err != nil {
			return nil, errors.Join(err, s.file.Close())
		}
	}
	return s, nil
}

// header reads the header of the file at path of a repository, and keeps it.
func (c *Content) header(at *Repo, path string, info fs.FileInfo) (*FileHeader, error) {
	if at.mode != ModeArchive {
		h, err := at.bareHeader(c.Name, path, info)
		if err == nil {
			c.Head = appendFilezHeader(nil, h)
		}
		return h, err
	}
	f, err := openFile(context.Background(), path) // a header is short
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", c.Name, err)
	}
	defer f.Close()
	head, h, err := ReadHead(f)
	if err != nil {
		return nil, unfit(c.Name, err)
	}
	c.Head = head
	return &h, nil
}

// contentReader reads content and compares its checksum at the end.
type contentReader struct {
	content *Content
	file    *file // nil for a symbolic link
	from    io.Reader
	sum     hash.Hash
	read    int64
	done    bool // and the checksum was right
}

// inflate has the deflate stream of an archive's file read.
func (s *contentReader) inflate() error {
	in := bufio.NewReaderSize(s.file, chunkSize)
	if _, err := in.Discard(len(s.content.Head)); err != nil {
		return fmt.Errorf("object %s: %w", s.content.Name, err)
	}
	s.from = flate.NewReader(in)
	return nil
}

func (s *contentReader) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	s.sum.Write(p[:n])
	s.read += int64(n)
	if s.read > s.content.Size {
		return 0, s.bad()
	}
	if err == nil || s.done {
		return n, err
	}
	switch corrupt := flate.CorruptInputError(0); {
	case errors.As(err, &corrupt), err == io.ErrUnexpectedEOF:
		return n, s.bad()
	case err != io.EOF:
		return n, fmt.Errorf("object %s: %w", s.content.Name, err)
	}
	if s.read != s.content.Size || Checksum(s.sum.Sum(nil)) != s.content.Name.Checksum {
		return n, s.bad()
	}
	s.done = true
	return n, io.EOF
}

func (s *contentReader) bad() error {
	return &BadObjectError{Object: s.content.Name, Reason: errMismatch}
}

func (s *contentReader) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// ReadHead reads what stands before the content of a file in archive form, and tells
// the content's size and mode. An error that is not r's says what is wrong with it.
func ReadHead(r io.Reader) (head []byte, h FileHeader, err error) {
	h, raw, err := readFilezHeader(r, nil)
	if err != nil {
		return nil, h, err
	}
	head = binary.BigEndian.AppendUint32(nil, uint32(len(raw)))
	return append(append(head, 0, 0, 0, 0), raw...), h, nil
}

// An Archiver makes the archive form of content that is written to it. It serves one
// goroutine, and is made to be used again.
type Archiver struct {
	deflate *flate.Writer
	sum     hash.Hash
	out     io.Writer
	size    int64
	written int64
	symlink bool
}

// NewArchiver makes one that compresses as zlib's level says, as far as the library
// here has it.
func NewArchiver(level int) (*Archiver, error) {
	a := &Archiver{sum: sha256.New()}
	var err error
	a.deflate, err = flate.NewWriter(io.Discard, level)
	return a, err
}

// Begin begins an object of this head, from ReadHead, and writes it to out.
func (a *Archiver) Begin(out io.Writer, head []byte, h *FileHeader) error {
	a.out, a.size, a.written, a.symlink = out, int64(h.Size), 0, h.symlink()
	a.sum.Reset()
	a.sum.Write(appendContentHeader(nil, head[8:]))
	a.deflate.Reset(out)
	_, err := out.Write(head)
	return err
}

// Write adds content. An error that is not out's is a *ContentError.
func (a *Archiver) Write(p []byte) (int, error) {
	if a.written += int64(len(p)); a.written > a.size {
		return 0, &ContentError{fmt.Sprintf("size says %d, its content is longer", a.size)}
	}
	a.sum.Write(p)
	return a.deflate.Write(p)
}

// End ends the object, which is n if there is no error. A *ContentError says why it is
// not.
func (a *Archiver) End(n Name) error {
	if a.written != a.size {
		return &ContentError{fmt.Sprintf("size says %d, content has %d bytes", a.size, a.written)}
	}
	if sum := Checksum(a.sum.Sum(nil)); sum != n.Checksum {
		return &ContentError{fmt.Sprintf("its content checksum is %s", sum)}
	}
	switch {
	case a.symlink:
		return nil
	case a.size == 0:
		_, err := a.out.Write(emptyDeflate[:])
		return err
	}
	return a.deflate.Close()
}

// A ContentError says why content is not that of the object that it should be.
type ContentError struct{ reason string }

func (e *ContentError) Error() string { return e.reason }

// ZlibLevel is how hard files are compressed, archive.zlib-level or libostree's 6.
func (r *Repo) ZlibLevel() int {
	level, err := strconv.Atoi(r.config["archive.zlib-level"])
	if err != nil || level < 1 || level > 9 {
		return 6
	}
	return level
}

// Files visits the files of a commit's tree with their paths, "/usr/bin/true". Trees
// that skip has are passed over, and so is what comes again under another path: a tree
// is read once. What cannot be read ends the walk with an error.
func (r *Repo) Files(ctx context.Context, commit Checksum, skip map[Checksum]bool, visit func(path string, n Name) error) error {
	c, err := r.commit(commit)
	if err != nil {
		return err
	}
	seen := map[Checksum]bool{}
	todo := []place{{c.Tree, ""}}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if err := ctx.Err(); err != nil {
			return err
		}
		if seen[at.tree] || skip[at.tree] {
			continue
		}
		seen[at.tree] = true
		if err := r.folder(at, &todo, visit); err != nil {
			return err
		}
	}
	return nil
}

// folder visits the files of one dirtree, and adds its folders to todo.
func (r *Repo) folder(at place, todo *[]place, visit func(string, Name) error) error {
	b, err := r.soundMetadata(Name{at.tree, DirTree})
	if err != nil {
		return err
	}
	t, err := parseDirTree(b)
	if err != nil {
		return err
	}
	return t.entries(func(name []byte, n Name) error {
		path := at.path + "/" + string(bytes.Clone(name))
		switch n.Type {
		case DirTree:
			*todo = append(*todo, place{n.Checksum, path})
		case File:
			return visit(path, n)
		}
		return nil
	})
}
