// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/lirios/ostree-upload/internal/encode"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// noSource begins the reason of an object whose difference cannot be applied. It is
// lacking still, and its client sends it whole.
const noSource = "no-source: "

// openSource has the source of a difference in the spool, or tells why not. It says no
// more about an object that the token may not read than about one that is not there.
func (w *worker) openSource(u *upload, from encode.Source) (reason string, err error) {
	allowed, err := w.reachable(u, from)
	if err != nil {
		return "", err
	}
	if !allowed {
		return fmt.Sprintf("%sno commit that this session may build on has file %s", noSource, from.Checksum), nil
	}
	source, err := w.repo.Content(w.task.ctx, ostree.Name{Checksum: from.Checksum, Type: ostree.File})
	if err == nil && source.Regular() && source.Size == from.Size {
		if w.sourced += source.Size; w.sourced > encode.MaxMade {
			w.reader.End(encode.ErrSources)
			return encode.ErrSources.Error(), nil
		}
		err = w.fillSpool(source)
	}
	var bad *ostree.BadObjectError
	switch {
	case errors.As(err, &bad), errors.Is(err, fs.ErrNotExist):
		w.warn(u, from, err)
		return fmt.Sprintf("%sfile %s is missing or damaged here", noSource, from.Checksum), nil
	case err != nil:
		return "", err
	case !source.Regular():
		return fmt.Sprintf("%sobject %s is no regular file", noSource, from.Checksum), nil
	case source.Size != from.Size:
		return fmt.Sprintf("%sfile %s has %d bytes, not %d", noSource, from.Checksum, source.Size, from.Size), nil
	}
	return "", nil
}

// warn tells of the first damaged source of a pack.
func (w *worker) warn(u *upload, from encode.Source, err error) {
	if !w.warned {
		w.cfg.Log.Warn("the source of a difference is missing or damaged in the repository", "session", u.session, "object", from.Checksum, "err", err)
	}
	w.warned = true
}

// fillSpool writes a source's content to the spool.
func (w *worker) fillSpool(source *ostree.Content) (err error) {
	if err := w.checkRoom(); err != nil {
		return err
	}
	if w.spool == nil {
		if w.spool, err = os.CreateTemp(w.uploads, "source-"); err != nil {
			return err
		}
		if err := os.Remove(w.spool.Name()); err != nil {
			return err
		}
	}
	if err := w.spool.Truncate(0); err != nil {
		return err
	}
	if _, err := w.spool.Seek(0, io.SeekStart); err != nil {
		return err
	}
	in, err := source.Open()
	if err != nil {
		return err
	}
	_, err = w.copy(&output{w: w, file: w.spool}, steppedSource{w, in})
	return errors.Join(err, in.Close())
}

// steppedSource takes a step before each read.
type steppedSource struct {
	w *worker
	r io.Reader
}

func (s steppedSource) Read(p []byte) (int, error) {
	if err := s.w.step(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// maxCommits is how many commits the differences of one pack are of: to learn the files
// of one takes a walk.
const maxCommits = 16

// reachable tells whether the session's token may read a source: it is in a commit that
// a ref of the session names now, or another one that the token may push.
func (w *worker) reachable(u *upload, from encode.Source) (bool, error) {
	files, known := w.readable[from.Commit]
	if !known && len(w.readable) < maxCommits {
		allowed, err := w.mayRead(u.session, from.Commit)
		if err != nil {
			return false, err
		}
		if allowed {
			if files, err = w.sources.of(w.task.ctx, w.repo, from.Commit); err != nil {
				return false, err
			}
		}
		w.readable[from.Commit] = files
	}
	return files.has(from.Checksum), nil
}

// mayRead goes by what refs are, and not by what the session says that they are: that is
// compared only when it is published.
func (w *worker) mayRead(id string, commit ostree.Checksum) (bool, error) {
	session, err := w.cfg.Journal.Session(id)
	if err != nil {
		return false, err
	}
	refs, err := w.repo.Refs()
	if err != nil {
		return false, err
	}
	for ref, c := range refs {
		ofSession := func(r wire.Ref) bool { return r.Ref == ref }
		if c == commit && (slices.ContainsFunc(session.Refs, ofSession) || w.cfg.MayPush(session.Token, ref)) {
			return true, nil
		}
	}
	return false, nil
}

// sources knows the files of commits that differences are of.
type sources struct {
	mu      sync.Mutex
	commits []commitFiles // used last comes first
}

// commitFiles are the files of a commit, in short and in order.
type commitFiles struct {
	commit ostree.Checksum
	files  fileSet
}

type fileSet []uint64

// seed is new with each process: nobody can look for a file of their own that has the
// short name of somebody else's.
var seed = maphash.MakeSeed()

func short(c ostree.Checksum) uint64 { return maphash.Bytes(seed, c[:]) }

func (s fileSet) has(c ostree.Checksum) bool {
	_, found := slices.BinarySearch(s, short(c))
	return found
}

// maxSources bounds what is kept: commits, and files in all of them.
const (
	maxSources     = 16
	maxSourceFiles = 2 << 20
)

// of gives the files of a commit. One that is not whole here has none.
func (s *sources) of(ctx context.Context, repo *ostree.Repo, commit ostree.Checksum) (fileSet, error) {
	if files, found := s.find(commit); found {
		return files, nil
	}
	var files fileSet
	err := repo.Files(ctx, commit, nil, func(_ string, n ostree.Name) error {
		files = append(files, short(n.Checksum))
		return nil
	})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		files = nil // it is damaged or pruned, and no source then
	}
	slices.Sort(files)
	files = slices.Clip(slices.Compact(files))
	s.keep(commitFiles{commit, files})
	return files, nil
}

func (s *sources) find(commit ostree.Checksum) (fileSet, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.commits, func(c commitFiles) bool { return c.commit == commit })
	if i < 0 {
		return nil, false
	}
	found := s.commits[i]
	s.commits = slices.Insert(slices.Delete(s.commits, i, i+1), 0, found)
	return found.files, true
}

// keep keeps the files of a commit, and drops those used longest ago.
func (s *sources) keep(c commitFiles) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commits = slices.Insert(s.commits, 0, c)
	all := 0
	for i, c := range s.commits {
		if all += len(c.files); i > 0 && (all > maxSourceFiles || i == maxSources) {
			clear(s.commits[i:])
			s.commits = s.commits[:i]
			return
		}
	}
}
