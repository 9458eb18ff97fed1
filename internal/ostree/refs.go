// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// localRefPart is what libostree takes for a part of a ref when it lists them;
// it skips other files, such as those that editors and rsync leave behind.
var localRefPart = regexp.MustCompile(`^[\p{L}\p{N}_][-._\p{L}\p{N}]*$`)

// Refs returns the local refs, those below refs/heads, with their commits, but not
// those of a parent repository. An alias, which is a symlink, is listed under its
// own name. Names are as they are on disk; ValidateRef may refuse some.
func (r *Repo) Refs() (map[string]Checksum, error) {
	if err := r.refresh(); err != nil {
		return nil, err
	}
	refs := map[string]Checksum{}
	if err := r.listRefs("", func(ref string) error { return r.addRef(ref, refs) }); err != nil {
		return nil, err
	}
	return refs, nil
}

// RefNames lists the same refs, sorted, and does not read them.
func (r *Repo) RefNames() (names []string, err error) {
	if err := r.refresh(); err != nil {
		return nil, err
	}
	err = r.listRefs("", func(ref string) error {
		names = append(names, ref)
		return nil
	})
	slices.Sort(names)
	return names, err
}

// listRefs visits the refs below a folder of refs/heads.
func (r *Repo) listRefs(folder string, visit func(ref string) error) error {
	entries, err := os.ReadDir(r.refPath(folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a folder that goes while we read, or a repository without refs
	}
	if err != nil {
		return fmt.Errorf("listing refs of repository %s: %w", r.where, err)
	}
	for _, e := range entries {
		if !localRefPart.MatchString(e.Name()) {
			continue
		}
		ref := strings.TrimPrefix(folder+"/"+e.Name(), "/")
		if e.IsDir() {
			if err := r.listRefs(ref, visit); err != nil {
				return err
			}
			continue
		}
		if err := visit(ref); err != nil {
			return err
		}
	}
	return nil
}

func (r *Repo) addRef(ref string, refs map[string]Checksum) error {
	c, err := r.readRef(ref)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EISDIR) {
		return nil // deleted meanwhile, or an alias of no ref
	}
	if err != nil {
		return err
	}
	refs[ref] = c
	return nil
}

// OtherRefs returns the commits of the refs that are not local: those below
// refs/remotes and refs/mirrors, by their path below refs.
func (r *Repo) OtherRefs() (map[string]Checksum, error) {
	if r.beyond != nil {
		return r.otherRefsBeyond()
	}
	listed := map[string]Checksum{}
	for _, kind := range []string{"../remotes", "../mirrors"} { // as seen from refs/heads
		if err := r.listRefs(kind, func(ref string) error { return r.addRef(ref, listed) }); err != nil {
			return nil, err
		}
	}
	refs := make(map[string]Checksum, len(listed))
	for name, c := range listed {
		refs[strings.TrimPrefix(name, "../")] = c
	}
	return refs, nil
}

func (r *Repo) refPath(ref string) string {
	return filepath.Join(r.path, "refs", "heads", filepath.FromSlash(ref))
}

// Ref returns the commit of a local ref. The error wraps fs.ErrNotExist if there
// is no such ref.
func (r *Repo) Ref(name string) (Checksum, error) {
	if !isLocalRef(name) {
		return Checksum{}, fmt.Errorf("%q is not the name of a ref: %w", clip(name), fs.ErrNotExist)
	}
	if err := r.refresh(name); err != nil {
		return Checksum{}, err
	}
	for at := r; at != nil; at = at.parent {
		info, err := os.Stat(at.refPath(name))
		if isMissing(err) || err == nil && info.IsDir() {
			continue
		}
		return at.readRef(name)
	}
	return Checksum{}, fmt.Errorf("ref %s is not in repository %s: %w", name, r.where, fs.ErrNotExist)
}

// InParent tells whether a parent of the repository has a ref of this name.
func (r *Repo) InParent(name string) bool {
	if r.parent == nil {
		return false
	}
	_, err := r.parent.Ref(name)
	return err == nil
}

// Alias returns what a local ref stands for if its name, or a folder of its name,
// is a symlink: a commit written to it would replace an alias (ostree refs
// --alias), or get another name than asked for. The target is a ref's name where
// the link stays below refs/heads, whether or not there is one, and else a path.
func (r *Repo) Alias(name string) (target string, is bool, err error) {
	heads := r.refPath("")
	for end := range len(name) + 1 {
		if end < len(name) && name[end] != '/' {
			continue
		}
		path := r.refPath(name[:end])
		info, err := os.Lstat(path)
		if isMissing(err) {
			return "", false, nil
		}
		if err != nil {
			return "", false, fmt.Errorf("ref %s of repository %s: %w", name, r.path, err)
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		link, err := os.Readlink(path)
		if err != nil {
			return "", false, fmt.Errorf("ref %s of repository %s: %w", name, r.path, err)
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(filepath.Dir(path), link)
		}
		link = filepath.Join(link, filepath.FromSlash(name[end:]))
		if ref, err := filepath.Rel(heads, link); err == nil && filepath.IsLocal(ref) {
			return filepath.ToSlash(ref), true, nil
		}
		return link, true, nil
	}
	return "", false, nil
}

// isLocalRef tells whether libostree would list a file of this name as a ref.
func isLocalRef(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if !localRefPart.MatchString(part) {
			return false
		}
	}
	return true
}

// isMissing also knows "a/b" where "a" is a ref, and a name too long to exist.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG)
}

func (r *Repo) readRef(ref string) (Checksum, error) {
	b, err := readRefFile(r.refPath(ref))
	if err != nil {
		return Checksum{}, fmt.Errorf("ref %s of repository %s: %w", ref, r.where, err)
	}
	return ParseRef(ref, r.where, b)
}

// A BadRefError is about a ref whose file is damaged: it names no commit.
type BadRefError struct {
	Ref, Repo string
	Reason    error
}

func (e *BadRefError) Error() string {
	return fmt.Sprintf("ref %s of repository %s: %v", e.Ref, e.Repo, e.Reason)
}

// ParseRef reads what the file of a ref holds. The error is a *BadRefError.
func ParseRef(ref, repo string, b []byte) (Checksum, error) {
	c, err := ParseChecksum(strings.TrimSpace(string(b)))
	if err != nil {
		return Checksum{}, &BadRefError{ref, repo, err}
	}
	return c, nil
}

// maxRefFile is how many bytes of a ref's file are read: more than its checksum, so that
// one with something else in it is seen.
const maxRefFile = 256

// readRefFile reads a ref's file with as few calls as can be: there may be tens of
// thousands.
func readRefFile(path string) ([]byte, error) {
	f, err := openFile(context.Background(), path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	return readAtMost(make([]byte, 0, 80), f, maxRefFile)
}
