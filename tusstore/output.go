// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// output is where an object is made: in memory, or in a file beside its upload.
type output struct {
	w    *worker
	file *os.File // nil: in memory
	size int64
	kept bool
}

const madeSuffix = ".made"

// output returns where to make an object of about so many bytes.
func (w *worker) output(u *upload, size int64) (*output, error) {
	if err := w.checkRoom(); err != nil {
		return nil, err
	}
	w.small.Reset()
	o := &output{w: w}
	if size <= smallObject {
		return o, nil
	}
	var err error
	o.file, err = os.Create(w.dataPath(u.session, u.name) + madeSuffix)
	return o, err
}

// checkRoom refuses to write more once too little is free: what arrives is no measure of
// what is made of it.
func (w *worker) checkRoom() error {
	room, err := w.Room(w.task.token)
	if err == nil && room.Bytes < w.limits.MinFree {
		err = fmt.Errorf("%d bytes are to stay free (min-free-space), and %d are: %w", w.limits.MinFree, room.Bytes, unix.ENOSPC)
	}
	return err
}

// checkEvery is how many bytes of a large object are written between two looks at what
// is free.
const checkEvery = 16 << 20

func (o *output) Write(p []byte) (int, error) {
	before := o.size
	o.size += int64(len(p))
	if o.file == nil {
		return o.w.small.Write(p)
	}
	if before/checkEvery != o.size/checkEvery {
		if err := o.w.checkRoom(); err != nil {
			return 0, err
		}
	}
	return o.file.Write(p)
}

func (o *output) reader() (io.Reader, error) {
	if o.file == nil {
		return bytes.NewReader(o.w.small.Bytes()), nil
	}
	_, err := o.file.Seek(0, io.SeekStart)
	return o.file, err
}

func (o *output) bytes() ([]byte, error) {
	if o.file == nil {
		return bytes.Clone(o.w.small.Bytes()), nil
	}
	return readAt(o.file, o.size)
}

// stage stages the object, which was verified.
func (o *output) stage(n ostree.Name) error {
	if o.file == nil {
		return o.w.staged.put(n, o.w.small.Bytes())
	}
	o.kept = true
	return o.w.staged.move(n, o.file.Name())
}

// drop forgets what was not staged.
func (o *output) drop() {
	if o.file == nil {
		return
	}
	_ = o.file.Close()
	if !o.kept {
		_ = os.Remove(o.file.Name()) // else the next start does
	}
}
