// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// A refTree is what the folders below refs/heads held when they were last read. There may
// be tens of thousands: listing them again reads those only that have changed since.
type refTree struct {
	mu   sync.Mutex // held for a whole list: two at once would read the same
	root refFolder
	dev  atomic.Uint64    // of what can be kept: that of refs/heads; 0 if nothing can
	now  func() time.Time // nil: the time it is
}

// A refFolder is a folder as it was read.
type refFolder struct {
	name    string     // of the refs in it, before the last slash; "" is refs/heads itself
	read    stamp      // what it was then; zero if it has to be read again
	entries []refEntry // sorted as the names of refs are
}

// A refEntry is a ref, or a folder of refs.
type refEntry struct {
	RefName
	folder *refFolder
}

// A refValue is the commit of a ref as its file was read.
type refValue struct {
	read   stamp
	commit Checksum
}

// list returns the refs below a folder, sorted.
func (t *refTree) list(heads string) ([]RefName, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	folder, err := os.Open(heads)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a repository without refs
	}
	if err != nil {
		return nil, err
	}
	defer folder.Close() //nolint:errcheck // nothing was written to it
	t.dev.Store(deviceOf(folder))
	w := refWalk{tree: t, heads: folder}
	w.group.SetLimit(runtime.GOMAXPROCS(0))
	err = w.folder(&t.root)
	if other := w.group.Wait(); err == nil {
		err = other
	}
	return appendRefs(nil, heads, &t.root), err
}

func (t *refTree) time() time.Time {
	if t.now != nil {
		return t.now()
	}
	return time.Now()
}

// keeps tells whether what is read at a moment may be kept.
func (t *refTree) keeps(is stamp, moment time.Time) bool {
	return is.dev == t.dev.Load() && is.settled(moment)
}

// appendRefs adds what is below a folder. A symlink to a folder is no ref.
func appendRefs(names []RefName, heads string, f *refFolder) []RefName {
	for _, e := range f.entries {
		switch {
		case e.folder != nil:
			names = appendRefs(names, heads, e.folder)
		case e.Alias && isDir(filepath.Join(heads, e.Name)):
		default:
			names = append(names, e.RefName)
		}
	}
	return names
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// A refWalk brings the folders of a tree up to date, some at once.
type refWalk struct {
	tree  *refTree
	heads *os.File
	group errgroup.Group
}

func (w *refWalk) folder(f *refFolder) error {
	if err := w.refresh(f); err != nil {
		return err
	}
	for _, e := range f.entries {
		if e.folder == nil || w.group.TryGo(func() error { return w.folder(e.folder) }) {
			continue
		}
		if err := w.folder(e.folder); err != nil { // all are at work
			return err
		}
	}
	return nil
}

// refresh reads a folder if it is not what it was. What it is, is asked before it is read:
// a change meanwhile then is one that the next list sees.
func (w *refWalk) refresh(f *refFolder) error {
	started := w.tree.time()
	is, err := stampOf(int(w.heads.Fd()), cmp.Or(f.name, "."))
	if err == nil && is == f.read {
		return nil
	}
	f.read = stamp{}
	var found []fs.DirEntry
	if err == nil {
		found, err = os.ReadDir(filepath.Join(w.heads.Name(), f.name))
	}
	if err != nil && !isMissing(err) { // one that is missing went meanwhile, or they all went
		return err
	}
	f.replace(found)
	if w.tree.keeps(is, started) {
		f.read = is
	}
	return nil
}

// replace makes entries of what was found in a folder. What is known of the folders and
// refs that were there before stays.
func (f *refFolder) replace(found []fs.DirEntry) {
	before := make(map[string]refEntry, len(f.entries))
	for _, e := range f.entries {
		before[e.Name] = e
	}
	f.entries = make([]refEntry, 0, len(found))
	for _, e := range found {
		if !localRefPart.MatchString(e.Name()) {
			continue
		}
		name := path.Join(f.name, e.Name())
		was := before[name]
		entry := refEntry{RefName: RefName{Name: name, Alias: e.Type()&fs.ModeSymlink != 0, value: was.value}}
		if e.IsDir() {
			entry.folder = cmp.Or(was.folder, &refFolder{name: name})
		} else if entry.value == nil {
			entry.value = new(atomic.Pointer[refValue])
		}
		f.entries = append(f.entries, entry)
	}
	slices.SortFunc(f.entries, func(a, b refEntry) int { return cmp.Compare(a.order(), b.order()) })
}

// order is what an entry is sorted by: the refs of the folder a/b come after a/b-c.
func (e *refEntry) order() string {
	if e.folder != nil {
		return e.Name + "/"
	}
	return e.Name
}

// OwnRef is Ref for one that ListedRefs has listed. The error wraps fs.ErrNotExist if it is
// gone, or an alias of no ref. A file that is what it was is not read again.
func (r *Repo) OwnRef(n RefName) (Checksum, error) {
	started := r.listed.time()
	is, err := stampOf(unix.AT_FDCWD, r.refPath(n.Name))
	if was := n.value.Load(); err == nil && was != nil && was.read == is {
		return was.commit, nil
	}
	c, readErr := r.readRef(n.Name) // its error says more
	if err == nil && readErr == nil && r.listed.keeps(is, started) {
		n.value.Store(&refValue{is, c})
	}
	return c, readErr
}
