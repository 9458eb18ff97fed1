// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// A RefName is the name of a local ref, and whether it is a symlink: an alias.
type RefName struct {
	Name  string
	Alias bool
}

// ListedRefs lists the names of the local refs, sorted, and reads none of them: an alias is
// listed although there may be no such ref. A folder that is a symlink is not followed:
// libostree lists no refs there either.
func (r *Repo) ListedRefs() ([]RefName, error) {
	if err := r.refresh(); err != nil {
		return nil, err
	}
	l := refLister{repo: r}
	l.group.SetLimit(runtime.GOMAXPROCS(0))
	err := l.folder("")
	if err = errors.Join(err, l.group.Wait()); err != nil {
		return nil, fmt.Errorf("listing refs of repository %s: %w", r.path, err)
	}
	slices.SortFunc(l.names, func(a, b RefName) int { return strings.Compare(a.Name, b.Name) })
	return l.names, nil
}

// A refLister reads folders of refs, some at once: there can be more of them than refs.
type refLister struct {
	repo  *Repo
	group errgroup.Group
	mu    sync.Mutex
	names []RefName
}

// folder lists what is below a folder of refs/heads.
func (l *refLister) folder(name string) error {
	entries, err := os.ReadDir(l.repo.refPath(name))
	if isMissing(err) {
		return nil // gone meanwhile, or a repository without refs
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !localRefPart.MatchString(e.Name()) {
			continue
		}
		below := path.Join(name, e.Name())
		switch {
		case !e.IsDir():
			l.add(below, e.Type()&fs.ModeSymlink != 0)
		case !l.group.TryGo(func() error { return l.folder(below) }): // all are at work
			if err := l.folder(below); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *refLister) add(name string, alias bool) {
	if alias {
		if info, err := os.Stat(l.repo.refPath(name)); err == nil && info.IsDir() {
			return
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.names = append(l.names, RefName{name, alias})
}

// OwnRef is Ref for one that ListedRefs has listed. The error wraps fs.ErrNotExist if it is
// gone, or an alias of no ref.
func (r *Repo) OwnRef(name string) (Checksum, error) { return r.readRef(name) }

// Targets returns the names that aliases stand for, each with the first of its aliases.
func (r *Repo) Targets() (map[string]string, error) {
	names, err := r.ListedRefs()
	targets := map[string]string{}
	for _, n := range names {
		if !n.Alias || err != nil {
			continue
		}
		var target string
		if target, _, err = r.Alias(n.Name); targets[target] == "" {
			targets[target] = n.Name
		}
	}
	return targets, err
}
