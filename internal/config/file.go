// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"syscall"
)

// A File is a configuration file that is read again when it changes, so that
// a new token works, and a removed one does not, without a restart.
type File struct {
	path   string
	log    *slog.Logger
	checks []func(*Config) error

	mu      sync.Mutex
	current *Config
	seen    fs.FileInfo // of what was last read, good or bad; nil: not there
}

// errEmptied stands for a file that lost all its content. Editors and copies
// over the file leave it like this for a moment, and "no tokens at all" is
// nothing that anyone says with an empty file.
var errEmptied = errors.New("the file is empty")

// OpenFile loads the file at path. From then on a broken file is logged, once
// for each change of it, and what was read before stays in force. So is a changed one
// that fails a check of what it names; whoever uses the first makes that check.
func OpenFile(path string, log *slog.Logger, checks ...func(*Config) error) (*File, error) {
	// Stat first: a change between the two is then seen as one later.
	seen, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f := &File{path: path, log: log, checks: checks, seen: seen}
	if f.current, err = Load(path); err != nil {
		return nil, err
	}
	c := f.current
	log.Info("configuration read", "file", path, "tokens", len(c.Tokens), "oidc", len(c.OIDC))
	return f, nil
}

func (f *File) loadChanged() (*Config, error) {
	c, err := Load(f.path)
	if err != nil {
		return nil, err
	}
	for _, check := range f.checks {
		if err := check(c); err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
	}
	return c, nil
}

// Current is the configuration as the file has it now. It costs a stat.
func (f *File) Current() *Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, err := os.Stat(f.path)
	if err != nil {
		f.gone(err)
		return f.current
	}
	if Unchanged(f.seen, now) {
		return f.current
	}
	f.seen = now
	if isGone(now) { // a file that is mounted by itself stays the one that it was
		f.log.Error("the configuration was replaced by another file, which cannot be seen here; the last one stays in force",
			"file", f.path, "hint", "mount its folder, or edit the file where the server runs, and restart the server")
		return f.current
	}
	if c, err := f.reload(now); err != nil {
		f.log.Error("the changed configuration is not used", "file", f.path, "err", err)
	} else {
		f.log.Info("configuration read again", "file", f.path, "tokens", len(c.Tokens), "oidc", len(c.OIDC))
		f.current = c
	}
	return f.current
}

// Reload reads the file again also if it looks unchanged, and logs the outcome.
func (f *File) Reload() {
	f.mu.Lock()
	f.seen = nil
	f.mu.Unlock()
	f.Current()
}

func (f *File) gone(err error) {
	if f.seen != nil {
		f.log.Error("the configuration cannot be read, the last one stays in force", "file", f.path, "err", err)
	}
	f.seen = nil
}

func (f *File) reload(now fs.FileInfo) (*Config, error) {
	if now.Size() == 0 {
		return nil, errEmptied
	}
	return f.loadChanged()
}

// Unchanged tells whether a file, as two calls of stat have it, was neither replaced nor
// written to, nor made readable to others; nil is one that is not there.
func Unchanged(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && changed(a) == changed(b)
}

// changed is when anything of a file was changed, its mode and its owner, too.
func changed(info fs.FileInfo) syscall.Timespec { return info.Sys().(*syscall.Stat_t).Ctim }

// isGone tells whether a file has no name any more although it was found by one.
func isGone(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 0
}
