// SPDX-License-Identifier: AGPL-3.0-or-later

// Package lastuse remembers when each token was last used, by its name.
//
//   - A use costs no write. The file is written when a name's time in it is missing
//     or a minute old, not twice within a second, and at a clean stop: a kill loses
//     a minute at most.
//   - The file is replaced in one step, so any process may read it at any time, with
//     the server running or not.
//   - There are only names and times in it.
//
// A Record may be used concurrently; one process at a time has the file open.
package lastuse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/durable"
)

// File is the name of the file in a state folder.
const File = "last-use.json"

const (
	oldAfter   = time.Minute // a time in the file is written again
	leastGap   = time.Second // between two writes
	retryAfter = time.Minute // a write that failed is tried again
	mostNames  = 10_000      // which are remembered, those used last
)

// Record is the last uses as they are now, and the file that they are kept in.
type Record struct {
	path string
	log  *slog.Logger
	due  chan struct{}

	mu   sync.Mutex
	used map[string]time.Time
	kept map[string]time.Time // what the file says
}

// Open reads what the file in a state folder says. Nobody relies on it, so one
// that cannot be read is told in the log, and written anew.
func Open(state string, log *slog.Logger) (*Record, error) {
	r := &Record{path: filepath.Join(state, File), log: log, due: make(chan struct{}, 1)}
	if err := durable.RemoveTemporary(r.path); err != nil {
		return nil, err
	}
	var err error
	if r.used, err = Read(state); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("it is not known any more when tokens were last used", "err", err)
	}
	if r.used == nil {
		r.used = map[string]time.Time{}
	}
	r.kept = maps.Clone(r.used)
	return r, nil
}

// Read reads the last uses from the file in a state folder; an fs.ErrNotExist if
// there is none.
func Read(state string) (map[string]time.Time, error) {
	path := filepath.Join(state, File)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var used map[string]time.Time
	if err := json.Unmarshal(text, &used); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	return used, nil
}

// Use notes that a token is used now.
func (r *Record) Use(name string) {
	now := time.Now().UTC().Truncate(time.Second)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used[name] = now
	// A clock that was put back must not keep the file as it is until it catches up.
	if now.Sub(r.kept[name]).Abs() < oldAfter {
		return
	}
	select {
	case r.due <- struct{}{}:
	default: // it will be written with this use in it
	}
}

// All is when each token was last used, by its name.
func (r *Record) All() map[string]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.used)
}

// Run writes the file when it is due, and once more when ctx ends. An error is a
// disk that did not take what was written: others rely on it.
func (r *Record) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			_, err := r.tryKeep()
			return err
		case <-r.due:
		}
		gap, err := r.tryKeep()
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(gap):
		}
	}
}

// tryKeep writes the file, and returns how long to wait until the next time. That the
// disk is full ends nothing, at a stop neither.
func (r *Record) tryKeep() (gap time.Duration, err error) {
	if err = r.keep(); errors.Is(err, durable.ErrNotSynced) {
		return 0, err
	}
	if err != nil {
		r.log.Warn("cannot note when tokens were last used; it will be tried again", "err", err)
		return retryAfter, nil
	}
	return leastGap, nil
}

// keep writes the file, unless it says all that is known.
func (r *Record) keep() error {
	r.mu.Lock()
	forget(r.used)
	now, same := maps.Clone(r.used), maps.Equal(r.used, r.kept)
	r.mu.Unlock()
	if same {
		return nil
	}
	text, err := json.MarshalIndent(now, "", " ")
	if err != nil {
		return err
	}
	err = durable.Replace(r.path, func(f *os.File) error {
		_, err := f.Write(append(text, '\n'))
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", r.path, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = now
	return nil
}

// forget drops the names that were not used for longest, if there are too many.
func forget(used map[string]time.Time) {
	names := slices.SortedFunc(maps.Keys(used), func(a, b string) int { return used[b].Compare(used[a]) })
	for _, name := range names[min(len(names), mostNames):] {
		delete(used, name)
	}
}
