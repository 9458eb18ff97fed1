// SPDX-License-Identifier: AGPL-3.0-or-later

package deltas

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/ostree"
)

// What folders begin with in the repository's tmp/: those in which deltas are made, and
// to which those go that are removed, are of no use after a crash; those of Shelter are.
const (
	prefix     = "ostree-upload-delta-"
	keptPrefix = "ostree-upload-kept-delta-"
)

// errSuperseded says that the refs have moved on while a delta was made.
var errSuperseded = errors.New("the refs have moved on")

// noRoomError says that a delta would take space that is to stay free.
type noRoomError struct {
	free, min int64
	setting   string
}

func (e *noRoomError) Error() string {
	return fmt.Sprintf("no room for a static delta: %d bytes are free, and %s leaves %d free", e.free, e.setting, e.min)
}

// isThere tells whether a delta is in its place. libostree takes one without a
// superblock for none.
func (r *run) isThere(d Delta) bool {
	_, err := os.Stat(filepath.Join(r.Repo, d.path(), "superblock"))
	return err == nil
}

// temp is a folder of a delta that is not in its place.
func (r *run) temp(prefix string, d Delta) string {
	return filepath.Join(r.Repo, "tmp", prefix+strings.ReplaceAll(strings.TrimPrefix(d.path(), "deltas/"), "/", ""))
}

// sweep removes what a crash has left of making and removing deltas.
func (r *run) sweep() error {
	left, err := filepath.Glob(filepath.Join(r.Repo, "tmp", prefix+"*"))
	for _, path := range left {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// make makes one delta. Nothing is left of one that fails.
func (r *run) make(ctx context.Context, w wanted) (err error) {
	if !r.stillWanted(w) {
		return errSuperseded
	}
	start, folder := time.Now(), r.temp(prefix, w.Delta)
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := os.Mkdir(folder, 0o777); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if err := r.guarded(ctx, w, func(ctx context.Context) error { return r.Generate(ctx, r.Settings, w.Delta, folder) }); err != nil {
		return err
	}
	size, err := sizeOf(folder)
	if err != nil {
		return err
	}
	if err := r.place(w.Delta, folder); err != nil {
		return err
	}
	r.Log.Info("made a static delta", "delta", w.Delta, "ref", w.refList(), "bytes", size, "took", time.Since(start))
	return nil
}

// place gives a delta that is whole and durable its name. A folder of that name without
// a superblock is what a process left that was killed.
func (r *run) place(d Delta, folder string) error {
	path := filepath.Join(r.Repo, d.path())
	if err := durable.MakeFolder(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	if r.isThere(d) {
		return nil // somebody made it meanwhile
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return durable.Rename(folder, path)
}

// lookEvery is how often a delta that is being made is looked after.
const lookEvery = time.Second

// guarded ends what makes a delta when that becomes useless, or the disk full.
func (r *run) guarded(ctx context.Context, w wanted, generate func(context.Context) error) error {
	if err := r.room(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.watch(ctx, cancel, w)
	}()
	err := generate(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	cancel(nil)
	<-done
	if full := r.room(); full != nil {
		return full
	}
	return err
}

func (r *run) watch(ctx context.Context, cancel context.CancelCauseFunc, w wanted) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !r.stillWanted(w) {
			cancel(errSuperseded)
		}
		if err := r.room(); err != nil {
			cancel(err)
		}
	}
}

// room is an error if less is free than has to stay so, by the settings as they are now.
func (r *run) room() error {
	repo, err := ostree.OpenRepo(r.Repo)
	if err != nil {
		return err
	}
	space, err := repo.Space()
	switch {
	case err != nil:
		return err
	case space.Lacks(0):
		return &noRoomError{space.Free, space.MinFree, space.Setting}
	case space.Free < r.MinFree:
		return &noRoomError{space.Free, r.MinFree, "limits.min-free-space"}
	}
	return nil
}

func sizeOf(folder string) (size int64, err error) {
	err = filepath.WalkDir(folder, func(_ string, f fs.DirEntry, err error) error {
		if err != nil || f.IsDir() {
			return err
		}
		info, err := f.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}
