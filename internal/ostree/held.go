// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// VerifyHeld checks that the copy of an object which a repository has is what its name
// says, and reads all of it for that, from the disk and not from memory. Of detached
// metadata only the form can be checked. The error is a *BadObjectError if the copy is
// damaged, also where the disk cannot read it, wraps fs.ErrNotExist if there is none, and
// is an *UnreadableError if this user cannot tell. Reading ends with ctx.
func (v *Verifier) VerifyHeld(ctx context.Context, r *Repo, n Name) error {
	err := v.verifyHeld(ctx, r, n)
	switch {
	case errors.Is(err, unix.EIO):
		return &BadObjectError{Object: n, Reason: "the disk cannot read it"}
	case errors.Is(err, fs.ErrPermission):
		return &UnreadableError{Object: n, Reason: "this user may not read its file"}
	}
	return err
}

func (v *Verifier) verifyHeld(ctx context.Context, r *Repo, n Name) error {
	if r.beyond != nil {
		return v.verifyBeyond(ctx, r, n)
	}
	at, path, info, err := r.find(n)
	if err != nil {
		return err
	}
	if n.Type == File && at.mode != ModeArchive {
		return v.verifyBare(ctx, at, n, path, info)
	}
	if !info.Mode().IsRegular() {
		return &BadObjectError{Object: n, Reason: "it is not stored as a regular file"}
	}
	f, err := openUncached(ctx, path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	_, err = v.Verify(n, f)
	return err
}

// verifyBare checks the file of a bare repository, with the owner, mode and attributes
// that are part of the object.
func (v *Verifier) verifyBare(ctx context.Context, at *Repo, n Name, path string, info fs.FileInfo) error {
	c := &Content{Name: n}
	h, err := c.header(at, path, info)
	if err != nil {
		return err
	}
	c.Size, c.Mode = int64(h.Size), h.Mode
	if c.Regular() {
		if err := uncache(path); err != nil {
			return err
		}
	}
	from, err := c.open(ctx, path, false)
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // it was only read
	v.stopped = nil
	in := io.Reader(from)
	if v.step != nil {
		in = steppedReader{v, from}
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, in, v.buffer())
	if v.stopped != nil {
		return v.stopped
	}
	if bad := new(BadObjectError); errors.As(err, &bad) {
		return at.mismatch(n)
	}
	return err
}

// buffer is where content is read that is only hashed.
func (v *Verifier) buffer() []byte {
	if v.chunk == nil {
		v.chunk = make([]byte, chunkSize)
	}
	return v.chunk
}

// openUncached opens a file of which memory holds nothing.
func openUncached(ctx context.Context, path string) (*file, error) {
	f, err := openFile(ctx, path)
	if err != nil {
		return nil, err
	}
	if err := unix.Fadvise(f.fd, 0, 0, unix.FADV_DONTNEED); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "fadvise", Path: path, Err: err}, f.Close())
	}
	return f, nil
}

// uncache has the next reader of a file get it from the disk.
func uncache(path string) error {
	f, err := openUncached(context.Background(), path)
	if err != nil {
		return err
	}
	return f.Close()
}

// ObjectPath is where this repository keeps an object, or would.
func (r *Repo) ObjectPath(n Name) string { return r.objectPath(n) }
