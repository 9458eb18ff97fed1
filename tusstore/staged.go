// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// objectMode is what an object file is, whatever the umask says: it will be
// hard-linked into a repository that a web server reads.
const objectMode = 0o644

// staged is the repository of verified objects. The descriptors of its 256
// object folders stay open, which makes each of 50,000 writes cheaper.
type staged struct {
	path      string
	created   bool // by this process: nothing was staged before
	dirs      [256]int
	temps     atomic.Int64
	noUnnamed bool  // files have to be written under a temporary name
	stamp     stamp // of what this process verified
}

const stagedConfig = "[core]\nrepo_version=1\nmode=archive-z2\n"

// openStaged opens the archive repository at path and makes what is missing:
// what ostree_repo_create makes, without libostree.
func openStaged(path string) (*staged, error) {
	s := &staged{path: path, stamp: newStamp()}
	for i := range s.dirs {
		s.dirs[i] = -1
	}
	there, err := exists(filepath.Join(path, "objects"))
	if err != nil {
		return nil, err
	}
	s.created = !there
	dir, name := filepath.Split(path)
	for _, part := range []string{"objects", "tmp/cache", "extensions", "state", "refs/heads", "refs/mirrors", "refs/remotes"} {
		if err := makeIn(dir, 0o755, filepath.Join(name, part)); err != nil {
			return nil, err
		}
	}
	config := filepath.Join(path, "config")
	if err := durable.RemoveTemporary(config); err != nil {
		return nil, err
	}
	// Not written again: a server must start on a full disk, to say that it is full.
	if b, err := os.ReadFile(config); err != nil || string(b) != stagedConfig {
		if err := durable.Write(config, []byte(stagedConfig)); err != nil {
			return nil, err
		}
	}
	for i := range s.dirs {
		if err := s.openDir(i); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

// makeIn makes a folder, and those between, in one that is there: it is not made anew
// where the repository was moved away with it. Any of them may be a link to a folder.
func makeIn(dir string, mode fs.FileMode, name string) error {
	for part := range strings.SplitSeq(name, "/") {
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
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
	dir, file := s.place(n)
	mtime := s.stamp.on(time.Now())
	if !s.noUnnamed {
		return wrap("stage", n, durable.WriteUnnamed(dir, file, objectMode, mtime, b))
	}
	temp := tempPrefix + strconv.FormatInt(s.temps.Add(1), 10)
	return wrap("stage", n, durable.WriteNamed(dir, temp, file, objectMode, mtime, b))
}

const tempPrefix = ".tmp-"

// move stages the verified file at path by renaming it. An object that is
// there is as good: the same bytes hash to its name.
func (s *staged) move(n ostree.Name, path string) error {
	dir, file := s.place(n)
	return wrap("stage", n, durable.Move(path, objectMode, s.stamp.on(time.Now()), dir, file))
}

func wrap(what string, n ostree.Name, err error) error {
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, n, err)
	}
	return nil
}
