// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// objectMode is what an object file is, whatever the umask says: it will be
// hard-linked into a repository that a web server reads.
const objectMode = 0o644

// staged is the repository of verified objects. The descriptors of its 256
// object folders stay open, which makes each of 50,000 writes cheaper.
type staged struct {
	path    string
	dirs    [256]int
	temps   atomic.Int64
	noTmpfs atomic.Bool // the file system has no O_TMPFILE
}

const stagedConfig = "[core]\nrepo_version=1\nmode=archive-z2\n"

// openStaged opens the archive repository at path and makes what is missing:
// what ostree_repo_create makes, without libostree.
func openStaged(path string) (*staged, error) {
	s := &staged{path: path}
	for i := range s.dirs {
		s.dirs[i] = -1
	}
	for _, dir := range []string{"objects", "tmp/cache", "extensions", "state", "refs/heads", "refs/mirrors", "refs/remotes"} {
		if err := os.MkdirAll(filepath.Join(path, dir), 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(path, "config"), []byte(stagedConfig), 0o644); err != nil {
		return nil, err
	}
	for i := range s.dirs {
		if err := s.openDir(i); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

func (s *staged) openDir(i int) error {
	dir := filepath.Join(s.path, "objects", fmt.Sprintf("%02x", i))
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	s.dirs[i] = fd
	return nil
}

func (s *staged) close() error {
	var errs []error
	for i, fd := range s.dirs {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
			s.dirs[i] = -1
		}
	}
	return errors.Join(errs...)
}

// place is the folder descriptor of an object and its name in that folder.
func (s *staged) place(n ostree.Name) (fd int, file string) {
	return s.dirs[n.Checksum[0]], n.String()[2:]
}

func (s *staged) has(n ostree.Name) (bool, error) {
	fd, file := s.place(n)
	err := unix.Faccessat(fd, file, unix.F_OK, 0)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// put stages a verified object from memory. One that is there stays; nobody
// looks first, since the client was told what is lacking.
func (s *staged) put(n ostree.Name, b []byte) error {
	if !s.noTmpfs.Load() {
		err := s.putUnnamed(n, b)
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
			return wrap("stage", n, err)
		}
		s.noTmpfs.Store(true)
	}
	return wrap("stage", n, s.putTemp(n, b))
}

// putUnnamed writes a file without a name and links it: a kill in the middle
// leaves nothing.
func (s *staged) putUnnamed(n ostree.Name, b []byte) (err error) {
	dir, file := s.place(n)
	fd, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, objectMode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := fill(fd, b); err != nil {
		return err
	}
	err = unix.Linkat(fd, "", dir, file, unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.ENOENT) { // older kernels allow it to root only
		err = unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), dir, file, unix.AT_SYMLINK_FOLLOW)
	}
	if errors.Is(err, unix.EEXIST) {
		return nil // another upload brought the same object
	}
	return err
}

// putTemp does the same where there is no O_TMPFILE. What a kill leaves behind
// is a name that is no object's.
func (s *staged) putTemp(n ostree.Name, b []byte) error {
	dir, file := s.place(n)
	tmp := tempPrefix + strconv.FormatInt(s.temps.Add(1), 10)
	fd, err := unix.Openat(dir, tmp, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, objectMode)
	if err != nil {
		return err
	}
	err = errors.Join(fill(fd, b), unix.Close(fd))
	if err == nil {
		err = unix.Renameat(dir, tmp, dir, file)
	}
	if err != nil {
		return errors.Join(err, unix.Unlinkat(dir, tmp, 0))
	}
	return nil
}

const tempPrefix = ".tmp-"

// fill writes all of b and sets the mode.
func fill(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		b = b[max(n, 0):]
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&0o7777 == objectMode {
		return err
	}
	return unix.Fchmod(fd, objectMode) // the umask took something
}

// move stages the verified file at path by renaming it. An object that is
// there is as good: the same bytes hash to its name.
func (s *staged) move(n ostree.Name, path string) error {
	if err := os.Chmod(path, objectMode); err != nil {
		return wrap("stage", n, err)
	}
	dir, file := s.place(n)
	return wrap("stage", n, unix.Renameat(unix.AT_FDCWD, path, dir, file))
}

func wrap(what string, n ostree.Name, err error) error {
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, n, err)
	}
	return nil
}
