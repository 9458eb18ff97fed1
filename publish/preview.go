// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/journal"
)

// A preview is an archive repository that clients can pull a held session from: the refs
// of the session as they are to be, what their commits need, from staging or from the
// repository whatever its mode, and a summary of them. It has no other ref and no other
// object of the repository.
type preview struct {
	view    *view
	names   []ostree.Name // of all objects, sorted
	metas   map[ostree.Checksum][]byte
	refs    map[string]string
	summary []byte
}

// ErrNoPreview says that there is nothing to see: no such session or file, another key, or
// a session that is not held.
var ErrNoPreview = fmt.Errorf("there is no such preview: %w", fs.ErrNotExist)

// Preview opens a file of the repository that shows a held session to whoever has its key.
// The caller closes it. The error is ErrNoPreview if there is nothing to see.
func (p *Publisher) Preview(ctx context.Context, id, key, path string) (io.ReadCloser, int64, error) {
	s, err := p.cfg.Journal.Head(id)
	if errors.Is(err, journal.ErrNotFound) {
		return nil, 0, ErrNoPreview
	}
	if err != nil {
		return nil, 0, err
	}
	if s.State != journal.Held || subtle.ConstantTimeCompare([]byte(key), []byte(s.Key)) != 1 {
		return nil, 0, ErrNoPreview
	}
	shown, err := p.previews.get(id, func() (*preview, error) { return p.makePreview(context.WithoutCancel(ctx), id) })
	if err != nil {
		return nil, 0, err
	}
	return shown.open(ctx, path)
}

// makePreview finds out what a session's refs need. It reads all of their trees.
func (p *Publisher) makePreview(ctx context.Context, id string) (*preview, error) {
	s, err := p.cfg.Journal.Session(id)
	if err != nil {
		return nil, err
	}
	defer p.cfg.Hold()()
	v, err := p.openView(&s)
	if err != nil {
		return nil, err
	}
	shown := &preview{view: v, refs: make(map[string]string)}
	var commits []ostree.Checksum
	for _, r := range s.Refs {
		if r.New == "" { // it is to be deleted
			continue
		}
		commit, err := ostree.ParseChecksum(r.New)
		if err != nil {
			return nil, err
		}
		commits = append(commits, commit)
		shown.refs[r.Ref] = r.New
	}
	if shown.metas, err = mergedMetas(p.cfg.Journal, v, id, commits); err != nil {
		return nil, err
	}
	if err := shown.find(ctx, newClosure(v, p.cfg.Good), commits); err != nil {
		return nil, err
	}
	shown.summary, err = p.summarize(&s, shown, commits)
	return shown, err
}

// mergedMetas are the detached metadata of commits, as they will be once they are published.
func mergedMetas(j *journal.Journal, v *view, id string, commits []ostree.Checksum) (map[ostree.Checksum][]byte, error) {
	sent, err := j.CommitMetas(id)
	if err != nil {
		return nil, err
	}
	merged := make(map[ostree.Checksum][]byte)
	for _, c := range commits {
		meta, _, err := v.merged(c, sent[c])
		if err != nil {
			return nil, err
		}
		if len(meta) > 0 {
			merged[c] = meta
		}
	}
	return merged, nil
}

// find lists the objects that commits need.
func (shown *preview) find(ctx context.Context, c *closure, commits []ostree.Checksum) error {
	if err := c.walk(ctx, commits...); err != nil {
		return err
	}
	if len(c.missing) > 0 {
		return fmt.Errorf("the session lacks %d objects by now, one of them %s", len(c.missing), c.missing[0].Object)
	}
	for _, commit := range commits {
		shown.names = append(shown.names, ostree.Name{Checksum: commit, Type: ostree.CommitObject})
	}
	for _, folder := range c.folders {
		for n := range folder {
			shown.names = append(shown.names, n)
		}
	}
	slices.SortFunc(shown.names, ostree.Name.Compare)
	return nil
}

// summarize has libostree write the summary of a repository that has the commits and
// nothing else.
func (p *Publisher) summarize(s *journal.Session, shown *preview, commits []ostree.Checksum) (summary []byte, err error) {
	v := &checkView{path: filepath.Join(checksFolder(p.cfg), s.ID+"-summary")}
	defer func() { err = errors.Join(err, v.remove()) }()
	if err := errors.Join(v.remove(), v.makeEmpty("")); err != nil {
		return nil, err
	}
	for _, c := range commits {
		n := ostree.Name{Checksum: c, Type: ostree.CommitObject}
		b, err := shown.view.metadata(n)
		if err != nil {
			return nil, err
		}
		if err := v.write(n, b); err != nil {
			return nil, err
		}
	}
	if err := v.writeRefs(s); err != nil {
		return nil, err
	}
	repo, err := libostree.Open(v.path)
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	if err := repo.RegenerateSummary(); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(v.path, "summary"))
}

// open opens a file of the repository by its path.
func (shown *preview) open(ctx context.Context, path string) (io.ReadCloser, int64, error) {
	switch {
	case path == "config":
		return inMemory([]byte(viewConfig))
	case path == "summary":
		return inMemory(shown.summary)
	case strings.HasPrefix(path, "refs/heads/"):
		if commit := shown.refs[strings.TrimPrefix(path, "refs/heads/")]; commit != "" {
			return inMemory([]byte(commit + "\n"))
		}
	case strings.HasPrefix(path, "objects/"):
		return shown.object(ctx, strings.TrimPrefix(path, "objects/"))
	}
	return nil, 0, ErrNoPreview
}

func inMemory(b []byte) (io.ReadCloser, int64, error) {
	return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
}

// object opens an object by its path below objects/.
func (shown *preview) object(ctx context.Context, path string) (io.ReadCloser, int64, error) {
	n, err := ostree.ParseName(strings.Replace(path, "/", "", 1))
	if err != nil || n.Path() != path {
		return nil, 0, ErrNoPreview
	}
	if meta := shown.metas[n.Checksum]; n.Type == ostree.CommitMeta && meta != nil {
		return inMemory(meta)
	}
	if _, is := slices.BinarySearchFunc(shown.names, n, ostree.Name.Compare); !is {
		return nil, 0, ErrNoPreview
	}
	for _, repo := range []*ostree.Repo{shown.view.staged, shown.view.repo} {
		if repo == nil {
			continue // what is staged does not count
		}
		o, err := repo.Object(ctx, n)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		content, err := o.Open()
		return content, o.Size, err
	}
	return nil, 0, fmt.Errorf("object %s was taken away: %w", n, ErrNoPreview)
}
