// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"errors"
	"io"
)

// A detachable is the body of an upload until it is detached. go-tus leaves a
// goroutine behind for each upload that holds on to the reader; this way it
// holds on to an empty one.
type detachable struct {
	body io.ReadSeeker // nil once detached
	err  error         // the first failure to read
}

var errDetached = errors.New("the upload has ended")

func (d *detachable) Read(p []byte) (int, error) {
	if d.body == nil {
		return 0, errDetached
	}
	n, err := d.body.Read(p)
	d.keep(err)
	return n, err
}

func (d *detachable) Seek(offset int64, whence int) (int64, error) {
	if d.body == nil {
		return 0, errDetached
	}
	at, err := d.body.Seek(offset, whence)
	d.keep(err)
	return at, err
}

func (d *detachable) keep(err error) {
	if d.err == nil && err != nil && err != io.EOF {
		d.err = err
	}
}

func (d *detachable) detach() { d.body = nil }
