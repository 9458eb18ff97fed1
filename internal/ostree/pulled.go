// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Folders of refs/ in which libostree keeps what was pulled.
const (
	Remotes = "remotes" // by the name of a remote
	Mirrors = "mirrors" // by a collection ID
)

// A PulledRef is a ref that names what was pulled from elsewhere.
type PulledRef struct {
	Folder string // Remotes or Mirrors
	From   string // the remote's name, or the collection ID
	Ref    string
	Commit Checksum
}

// String is how libostree writes it: "origin:os/x".
func (p PulledRef) String() string { return p.From + ":" + p.Ref }

// Path is where libostree keeps it: "refs/remotes/origin/os/x".
func (p PulledRef) Path() string { return "refs/" + p.Folder + "/" + p.From + "/" + p.Ref }

// FindPulled finds the refs that were pulled as FROM:REF, from a remote or of a
// collection of that name, or the one of a Path.
func (r *Repo) FindPulled(name string) (found []PulledRef, err error) {
	for _, folder := range []string{Mirrors, Remotes} {
		from, ref, ok := strings.Cut(name, ":")
		if rest, is := strings.CutPrefix(name, "refs/"+folder+"/"); is {
			from, ref, ok = strings.Cut(rest, "/")
		}
		path := filepath.FromSlash(from + "/" + ref)
		if !ok || from == "" || ref == "" || strings.Contains(from, "/") || !filepath.IsLocal(path) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(r.path, "refs", folder, path))
		if isMissing(err) || errors.Is(err, syscall.EISDIR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("ref %s of repository %s: %w", name, r.path, err)
		}
		c, err := ParseChecksum(strings.TrimSpace(string(b)))
		if err != nil {
			return nil, fmt.Errorf("ref %s of repository %s: %w", name, r.path, err)
		}
		found = append(found, PulledRef{Folder: folder, From: from, Ref: ref, Commit: c})
	}
	return found, nil
}

// PulledRefs lists the refs below refs/remotes and refs/mirrors, in the order of
// their paths. Files that are not refs are passed over.
func (r *Repo) PulledRefs() (refs []PulledRef, err error) {
	if r.beyond != nil {
		return r.pulledRefsBeyond()
	}
	for _, folder := range []string{Mirrors, Remotes} {
		root := filepath.Join(r.path, "refs", folder)
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			from, ref, ok := strings.Cut(strings.TrimPrefix(path, root+"/"), "/")
			b, err := os.ReadFile(path) // #nosec G122 -- it is the repository of the user
			if err != nil || !ok {
				return err
			}
			if c, err := ParseChecksum(strings.TrimSpace(string(b))); err == nil {
				refs = append(refs, PulledRef{Folder: folder, From: from, Ref: ref, Commit: c})
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("listing pulled refs of repository %s: %w", r.path, err)
		}
	}
	return refs, nil
}
