// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Modes of a repository, as core.mode names them.
const (
	ModeArchive      = "archive-z2" // "archive" in a config means the same
	ModeBare         = "bare"
	ModeBareUser     = "bare-user"
	ModeBareUserOnly = "bare-user-only"
)

// maxParents bounds a chain of core.parent, which may run in a circle.
const maxParents = 16

// Repo reads a repository on the local disk. It is safe for concurrent use and
// holds no file open.
type Repo struct {
	path          string
	where         string // what errors about refs call it: path, or the URL of an object store
	mode          string
	collectionID  string
	config        config // as it was when the repository was opened
	disableXattrs bool   // core.disable-xattrs: content was stored without any
	parent        *Repo  // core.parent, nil if none
	beyond        Beyond // where its objects are, nil: on the disk

	listed     refTree
	converters sync.Pool // of *converter
}

// ErrNoRepo is wrapped by OpenRepo's error for a path that is no repository.
var ErrNoRepo = errors.New("no OSTree repository")

// OpenRepo opens the repository at path. The error says what is missing, and
// wraps fs.ErrNotExist if it is path itself.
func OpenRepo(path string) (*Repo, error) { return openRepo(path, 0) }

func openRepo(path string, depth int) (*Repo, error) {
	if depth > maxParents {
		return nil, fmt.Errorf("repository %s: more than %d parents, core.parent may run in a circle", path, maxParents)
	}
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrNoRepo, path, rootCause(err))
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%w at %s: it is not a folder", ErrNoRepo, path)
	}
	for _, part := range []string{"config", "objects"} {
		if _, err := os.Stat(filepath.Join(path, part)); err != nil {
			return nil, missingPart(path, part, err)
		}
	}
	c, err := readConfig(filepath.Join(path, "config"))
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", path, err)
	}
	r := &Repo{path: path, where: path}
	return r, r.configure(c, depth)
}

// missingPart leaves fs.ErrNotExist out: the path exists, it is just something
// else.
func missingPart(path, part string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w at %s: it has no %q", ErrNoRepo, path, part)
	}
	return fmt.Errorf("%w at %s: %w", ErrNoRepo, path, err)
}

// rootCause drops the operation and path that a *fs.PathError repeats.
func rootCause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func (r *Repo) configure(c config, depth int) error {
	switch v := c["core.repo_version"]; v {
	case "1", "":
	default:
		return fmt.Errorf("repository %s: its version %q is not supported", r.path, v)
	}
	switch mode := c["core.mode"]; mode {
	case ModeArchive, "archive":
		r.mode = ModeArchive
	case ModeBare, ModeBareUser, ModeBareUserOnly:
		r.mode = mode
	case "":
		r.mode = ModeBare // libostree's default
	default:
		return fmt.Errorf("repository %s: its mode %q is not supported", r.path, mode)
	}
	r.collectionID = c["core.collection-id"]
	r.disableXattrs = c.isSet("core.disable-xattrs")
	r.config = c
	if p := c["core.parent"]; p != "" {
		var err error
		if r.parent, err = openRepo(p, depth+1); err != nil {
			return fmt.Errorf("parent of repository %s: %w", r.path, err)
		}
	}
	return nil
}

// Mode is the repository's mode; "archive-z2" also if the config says "archive".
func (r *Repo) Mode() string { return r.mode }

// Path is the path that the repository was opened by.
func (r *Repo) Path() string { return r.path }

// CollectionID is core.collection-id, "" if there is none.
func (r *Repo) CollectionID() string { return r.collectionID }

// AutoUpdateSummary tells whether the owner wants the summary written whenever a
// ref moves: core.auto-update-summary, or its older name.
func (r *Repo) AutoUpdateSummary() bool {
	return r.config.isSet("core.auto-update-summary") || r.config.isSet("core.commit-update-summary")
}

// IndexesDeltas tells whether its static deltas have indexes, core.indexed-deltas: then
// clients look for them.
func (r *Repo) IndexesDeltas() bool { return r.config.isSet("core.indexed-deltas") }

// Locks tells whether libostree's lock of the repository works: nobody takes it if
// core.locking is false.
func (r *Repo) Locks() bool { return !r.config.isUnset("core.locking") }

// objectPath is where this repository would keep an object.
func (r *Repo) objectPath(n Name) string {
	suffix := n.Type.String()
	if n.Type == File && r.mode != ModeArchive {
		suffix = "file"
	}
	b := make([]byte, 0, len(r.path)+len("/objects/")+80)
	b = append(append(b, r.path...), "/objects/"...)
	return string(appendLoosePath(b, n, suffix))
}

// find looks for an object here, then in the parents. An error that it is in
// none of them wraps fs.ErrNotExist.
func (r *Repo) find(n Name) (at *Repo, path string, info fs.FileInfo, err error) {
	if r.beyond != nil {
		return nil, "", nil, r.missingBeyond(n)
	}
	for at = r; at != nil; at = at.parent {
		path = at.objectPath(n)
		info, err = os.Lstat(path)
		if err == nil {
			return at, path, info, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, "", nil, fmt.Errorf("object %s: %w", n, err)
		}
	}
	return nil, "", nil, fmt.Errorf("object %s is not in repository %s: %w", n, r.path, fs.ErrNotExist)
}

// Has reports whether the repository or one of its parents has an object, without
// reading it. An empty file, which a power cut may leave, does not count where no
// object can be empty. Has is called for each object of a push, so it does not spend
// an error on one that is missing.
func (r *Repo) Has(n Name) (bool, error) {
	if r.beyond != nil {
		return r.beyond.Has(n)
	}
	for at := r; at != nil; at = at.parent {
		var st unix.Stat_t
		switch err := unix.Lstat(at.objectPath(n), &st); err {
		case nil:
			return st.Size > 0 || at.allowsEmpty(n), nil // it hides what a parent has
		case unix.ENOENT:
		default:
			return false, fmt.Errorf("object %s: %w", n, err)
		}
	}
	return false, nil
}

// allowsEmpty reports whether an object can be stored as a file without bytes: an
// empty file that is kept as it is, or detached metadata without entries.
func (r *Repo) allowsEmpty(n Name) bool {
	return n.Type == CommitMeta || n.Type == File && r.mode != ModeArchive
}

// Metadata reads a commit, dirtree, dirmeta or commitmeta, at most MaxMetadata
// bytes. It does not verify them. The error wraps fs.ErrNotExist if there is no
// such object.
func (r *Repo) Metadata(n Name) ([]byte, error) {
	if n.Type == File {
		return nil, fmt.Errorf("object %s is not metadata", n)
	}
	if r.beyond != nil {
		return r.beyond.Metadata(n)
	}
	_, path, info, err := r.find(n)
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxMetadata {
		return nil, &LimitError{Object: n, Reason: fmt.Sprintf("it has %d bytes, more than the %d (128 MiB) that any libostree takes of metadata", info.Size(), MaxMetadata)}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", n, err)
	}
	defer f.Close()
	b, err := readAtMost(make([]byte, 0, info.Size()+1), f, MaxMetadata)
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", n, err)
	}
	return b, nil
}

// soundMetadata reads a metadata object and compares its checksum, so that a
// damaged one cannot lead a walk astray.
func (r *Repo) soundMetadata(n Name) ([]byte, error) {
	b, err := r.Metadata(n)
	if err != nil {
		return nil, err
	}
	if Checksum(sha256.Sum256(b)) != n.Checksum {
		return nil, &BadObjectError{Object: n, Reason: errMismatch}
	}
	return b, nil
}

// checkDirMeta reads a dirmeta only to see that it is sound.
func (r *Repo) checkDirMeta(n Name) error {
	b, err := r.soundMetadata(n)
	if err != nil {
		return err
	}
	if _, err := parseDirMeta(b); err != nil {
		return unfit(n, err)
	}
	return nil
}

// commit reads and parses a commit.
func (r *Repo) commit(c Checksum) (*Commit, error) {
	n := Name{c, CommitObject}
	b, err := r.soundMetadata(n)
	if err != nil {
		return nil, err
	}
	commit, err := ParseCommit(b)
	if err != nil {
		return nil, &BadObjectError{Object: n, Reason: err.Error()}
	}
	return commit, nil
}

// isPartial reports whether a commit is marked as incomplete, by the repository
// that it is in: pulled in part, or with objects that fsck deleted.
func (r *Repo) isPartial(commit Checksum) (bool, error) {
	at, _, _, err := r.find(Name{commit, CommitObject})
	if errors.Is(err, fs.ErrNotExist) {
		at, err = r, nil
	}
	if err != nil {
		return false, err
	}
	return at.exists(filepath.Join("state", commit.String()+".commitpartial"))
}

// isTombstone reports whether a commit was deleted on purpose.
func (r *Repo) isTombstone(commit Checksum) (bool, error) {
	return r.exists(filepath.Join("objects", loosePath(Name{Checksum: commit}, "tombstone-commit")))
}

func (r *Repo) exists(name string) (bool, error) {
	_, err := os.Lstat(filepath.Join(r.path, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Object says how to read an object in archive form.
type Object struct {
	Name Name
	Size int64 // exact length of the archive form
	// Open starts reading it. What it returns implements io.Seeker, and may be
	// read again by another Open at the same time.
	Open func() (io.ReadCloser, error)
	// Digest is the SHA-256 of the archive form, where finding Size gave it as
	// well: for large content that is converted. Else nil.
	Digest []byte
}

// Object returns how to read n in archive form. Metadata, and content of an
// archive repository, is the stored file and not verified here. Content of the
// bare modes is converted, which costs a pass over the file; if that is not what
// n names, the error is a *BadObjectError. The error wraps fs.ErrNotExist if
// there is no such object. All reading, also of what Open returns, ends with ctx.
func (r *Repo) Object(ctx context.Context, n Name) (*Object, error) {
	if r.beyond != nil {
		return r.objectBeyond(ctx, n)
	}
	at, path, info, err := r.find(n)
	if err != nil {
		return nil, err
	}
	if n.Type == File && at.mode != ModeArchive {
		return at.convert(ctx, n, path, info)
	}
	if !info.Mode().IsRegular() {
		return nil, &BadObjectError{Object: n, Reason: "it is not stored as a regular file"}
	}
	open := func() (io.ReadCloser, error) {
		f, err := openFile(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("object %s: %w", n, err)
		}
		return f, nil
	}
	return &Object{Name: n, Size: info.Size(), Open: open}, nil
}
