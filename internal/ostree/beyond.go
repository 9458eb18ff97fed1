// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
)

// Beyond is where the objects of a repository are that has no more on the disk than its
// configuration, and its refs as they were read last. It may be used concurrently.
type Beyond interface {
	// Has reports whether an object is there, as far as that is known without asking.
	Has(n Name) (bool, error)
	// Metadata reads a metadata object. The error wraps fs.ErrNotExist if there is none.
	Metadata(n Name) ([]byte, error)
	// Open reads an object in archive form, and tells how many bytes that has.
	Open(ctx context.Context, n Name) (io.ReadCloser, int64, error)
	// Refresh reads some refs again, or all if none is named.
	Refresh(refs ...string) error
	// Pulled reads what the refs hold that are not local, by their paths below refs/:
	// "remotes/origin/os/x".
	Pulled() (map[string][]byte, error)
}

// OpenBeyond opens a repository whose objects are elsewhere, at a URL.
func OpenBeyond(path, url string, b Beyond) (*Repo, error) {
	r, err := OpenRepo(path)
	if err != nil {
		return nil, err
	}
	if r.mode != ModeArchive || r.parent != nil {
		return nil, fmt.Errorf("repository %s: only an archive without a parent can be in an object store", path)
	}
	r.where, r.beyond = url, b
	return r, nil
}

// Reopen opens the repository anew, with its configuration as it is now.
func (r *Repo) Reopen() (*Repo, error) {
	if r.beyond != nil {
		return OpenBeyond(r.path, r.where, r.beyond)
	}
	return OpenRepo(r.path)
}

// ReadsContent tells whether the content of files is on the disk, for whoever needs it
// often or from its middle.
func (r *Repo) ReadsContent() bool { return r.beyond == nil }

// refresh has the refs on the disk brought up to date.
func (r *Repo) refresh(refs ...string) error {
	if r.beyond == nil {
		return nil
	}
	return r.beyond.Refresh(refs...)
}

// objectBeyond is Object for what is not on the disk. Its size is that of its first
// opening.
func (r *Repo) objectBeyond(ctx context.Context, n Name) (*Object, error) {
	if n.Type != File {
		b, err := r.beyond.Metadata(n)
		open := func() (io.ReadCloser, error) {
			return struct {
				io.ReadSeeker
				io.Closer
			}{bytes.NewReader(b), io.NopCloser(nil)}, nil
		}
		return &Object{Name: n, Size: int64(len(b)), Open: open}, err
	}
	first, size, err := r.beyond.Open(ctx, n)
	if err != nil {
		return nil, err
	}
	var unused atomic.Pointer[io.ReadCloser] // it ends with ctx
	unused.Store(&first)
	open := func() (io.ReadCloser, error) {
		if b := unused.Swap(nil); b != nil {
			return *b, nil
		}
		b, _, err := r.beyond.Open(ctx, n)
		return b, err
	}
	return &Object{Name: n, Size: size, Open: open}, nil
}

// readings is how often an object that is not on the disk is read whose bytes break off.
const readings = 4

// verifyBeyond is VerifyHeld for what is not on the disk.
func (v *Verifier) verifyBeyond(ctx context.Context, r *Repo, n Name) (err error) {
	for range readings {
		err = v.verifyOpened(ctx, r, n)
		if !errors.Is(err, io.ErrUnexpectedEOF) || ctx.Err() != nil {
			return err
		}
	}
	return &BadObjectError{Object: n, Reason: "its bytes break off whenever it is read"}
}

func (v *Verifier) verifyOpened(ctx context.Context, r *Repo, n Name) (err error) {
	from, _, err := r.beyond.Open(ctx, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	_, err = v.Verify(n, from)
	return err
}

// missingBeyond is the error of looking on the disk for what is elsewhere.
func (r *Repo) missingBeyond(n Name) error {
	return fmt.Errorf("object %s is in an object store and not on the disk: %w", n, fs.ErrNotExist)
}

// otherRefsBeyond is OtherRefs for what is not on the disk.
func (r *Repo) otherRefsBeyond() (map[string]Checksum, error) {
	texts, err := r.beyond.Pulled()
	if err != nil {
		return nil, err
	}
	refs := make(map[string]Checksum, len(texts))
	for name, text := range texts {
		if refs[name], err = ParseRef(name, r.where, text); err != nil {
			return nil, err
		}
	}
	return refs, nil
}

// pulledRefsBeyond is PulledRefs for what is not on the disk.
func (r *Repo) pulledRefsBeyond() (refs []PulledRef, err error) {
	texts, err := r.beyond.Pulled()
	for _, path := range slices.Sorted(maps.Keys(texts)) {
		folder, name, _ := strings.Cut(path, "/")
		from, ref, is := strings.Cut(name, "/")
		if c, err := ParseRef(path, r.where, texts[path]); is && err == nil {
			refs = append(refs, PulledRef{Folder: folder, From: from, Ref: ref, Commit: c})
		}
	}
	return refs, err
}
