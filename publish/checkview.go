// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/journal"
)

// A checkView is a repository in which a session's commits can be read whole before they
// are published. It has links to the staged objects that they need; the production
// repository, which is its parent as libostree means it, has the others. Its refs are
// those of the session, as they are to be.
type checkView struct{ path string }

// checksFolder holds the views; a start removes what a crash left.
func checksFolder(cfg Config) string { return filepath.Join(filepath.Dir(cfg.Staged), "checks") }

func (p *Publisher) dropViews() error { return os.RemoveAll(checksFolder(p.cfg)) }

// verifyAhead verifies a session as its publish will. Nobody has to look at what would be
// refused anyway, or sign it.
func (p *Publisher) verifyAhead(ctx context.Context, s *journal.Session) (*apply, *closure, error) {
	v, err := p.openView(s)
	if err != nil {
		return nil, nil, err
	}
	pl, err := p.verify(ctx, v, s)
	if err != nil {
		return nil, nil, err
	}
	a := &apply{cfg: p.cfg, view: v, plan: pl, quiet: true}
	c, err := a.closure(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := a.checkMetas(); err != nil {
		return nil, nil, err
	}
	return a, c, a.checkPolicy()
}

// checkView verifies a session, and makes a view of it.
func (p *Publisher) checkView(ctx context.Context, s *journal.Session) (*checkView, error) {
	defer p.cfg.Hold()()
	a, c, err := p.verifyAhead(ctx, s)
	if err != nil {
		return nil, err
	}
	return a.makeView(c)
}

func (v *checkView) remove() error { return os.RemoveAll(v.path) }

// makeView makes the folder of a view. Nothing relies on it after a crash.
func (a *apply) makeView(c *closure) (*checkView, error) {
	folder, err := filepath.Abs(checksFolder(a.cfg))
	if err != nil {
		return nil, err
	}
	v := &checkView{path: filepath.Join(folder, a.plan.session.ID)}
	if err := v.remove(); err != nil { // which a program may have left
		return nil, err
	}
	if err := v.fill(a, c); err != nil {
		_ = v.remove() // that it could not be made is what counts
		return nil, fmt.Errorf("make a view of the session for its check: %w", err)
	}
	return v, nil
}

func (v *checkView) fill(a *apply, c *closure) error {
	parent, err := filepath.Abs(a.cfg.Repo)
	if err != nil {
		return err
	}
	if err := v.makeEmpty("parent=" + keyFileEscapes.Replace(parent) + "\n"); err != nil {
		return err
	}
	if err := v.link(a, c); err != nil {
		return err
	}
	if err := v.writeMetas(a); err != nil {
		return err
	}
	return v.writeRefs(a.plan.session)
}

// viewConfig is the configuration of an archive repository.
const viewConfig = "[core]\nrepo_version=1\nmode=archive-z2\n"

// makeEmpty makes the repository, with more lines for its configuration.
func (v *checkView) makeEmpty(more string) error {
	for _, folder := range []string{"objects", "tmp/cache", "extensions", "state", "refs/heads", "refs/mirrors", "refs/remotes"} {
		if err := os.MkdirAll(filepath.Join(v.path, folder), 0o700); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(v.path, "config"), []byte(viewConfig+more), 0o600)
}

// keyFileEscapes writes a text as the value of a key in a file of GLib's form.
var keyFileEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`)

// link links the staged objects.
func (v *checkView) link(a *apply, c *closure) error {
	for _, folder := range c.folders {
		for n, is := range folder {
			if is != importable && is != replaceable {
				continue
			}
			if err := v.linkObject(a.cfg.Staged, n); err != nil {
				return err
			}
		}
	}
	for _, commit := range a.plan.commits {
		n := ostree.Name{Checksum: commit, Type: ostree.CommitObject}
		staged, err := a.view.hasStaged(n)
		if err == nil && staged {
			err = v.linkObject(a.cfg.Staged, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *checkView) linkObject(staged string, n ostree.Name) error {
	path, err := v.object(n)
	if err != nil {
		return err
	}
	return os.Link(filepath.Join(staged, "objects", n.Path()), path)
}

// object is the path of an object, whose folder it makes.
func (v *checkView) object(n ostree.Name) (string, error) {
	path := filepath.Join(v.path, "objects", n.Path())
	return path, os.MkdirAll(filepath.Dir(path), 0o700)
}

func (v *checkView) write(n ostree.Name, b []byte) error {
	path, err := v.object(n)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// writeMetas writes the detached metadata that the session brings, merged with what is
// there.
func (v *checkView) writeMetas(a *apply) error {
	for c, sent := range a.metas {
		meta, changed, err := a.view.merged(c, sent)
		if err != nil {
			return err
		}
		if !changed {
			continue
		}
		if err := v.write(ostree.Name{Checksum: c, Type: ostree.CommitMeta}, meta); err != nil {
			return err
		}
	}
	return nil
}

func (v *checkView) writeRefs(s *journal.Session) error {
	for _, r := range s.Refs {
		if r.New == "" { // it is to be deleted
			continue
		}
		path := filepath.Join(v.path, "refs/heads", r.Ref)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = os.WriteFile(path, []byte(r.New+"\n"), 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
