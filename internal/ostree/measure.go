// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// A Measure is what a look at an object's file tells, without reading it.
type Measure struct {
	Stored  int64 // bytes of the file
	Archive bool  // the file is the archive form
}

// Measure looks at an object's file. It refuses one that this user may not read.
// The error wraps fs.ErrNotExist if there is no such object.
func (r *Repo) Measure(n Name) (Measure, error) {
	at, path, info, err := r.find(n)
	if err != nil {
		return Measure{}, err
	}
	const readableByAll = 0o444 // which spares the question
	if info.Mode()&fs.ModeSymlink == 0 && info.Mode()&readableByAll != readableByAll &&
		unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK, unix.AT_EACCESS) == unix.EACCES {
		return Measure{}, &UnreadableError{Object: n, Reason: "this user may not read its file (mode " + info.Mode().Perm().String() + ")"}
	}
	return Measure{Stored: info.Size(), Archive: n.Type != File || at.mode == ModeArchive}, nil
}
