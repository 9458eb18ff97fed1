// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/sign"
)

// A draft is a new summary that is complete, with its signature, under temporary names.
type draft struct {
	folder string      // in the repository's tmp/
	keys   *sign.Keys  // that it is signed with; nil: it is not
	before fs.FileInfo // of the summary that it is to replace; nil: there is none
}

// draftFolder is the folder of the temporary names, in the repository's tmp/.
const draftFolder = "ostree-upload-summary"

// draft makes a summary, signed unless keys is nil. The caller drops it, also after an
// error. No lock is held while it is signed.
func (s *summary) draft(ctx context.Context, repo *libostree.Repo, keys *sign.Keys) (d *draft, err error) {
	d = &draft{folder: filepath.Join(s.repo, "tmp", draftFolder), keys: keys}
	if err := d.drop(); err != nil { // from before a crash
		return d, err
	}
	if d.before, err = statFile(s.path()); err != nil {
		return d, err
	}
	b, err := d.regenerate(ctx, repo, s.repo)
	if err != nil {
		return d, err
	}
	if err := durable.Fill(d.path("summary"), b); err != nil {
		return d, err
	}
	if d.keys != nil {
		if err := d.sign(ctx, b); err != nil {
			return d, err
		}
	}
	return d, d.date()
}

func (d *draft) sign(ctx context.Context, summary []byte) error {
	signature, err := d.keys.SignSummary(ctx, summary)
	if err != nil {
		return err
	}
	return durable.Fill(d.path("summary.sig"), signature)
}

func (d *draft) path(name string) string { return filepath.Join(d.folder, name) }

func (d *draft) drop() error { return os.RemoveAll(d.folder) }

// regenerate has libostree make the summary, in a repository that has the objects and
// refs of this one and a folder of its own: libostree writes it at once to where clients
// read it, and removes the signature.
func (d *draft) regenerate(ctx context.Context, repo *libostree.Repo, path string) (b []byte, err error) {
	if err := repo.Lock(ctx, libostree.Shared); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, repo.Unlock(libostree.Shared)) }()
	if err := indexDeltas(repo, path); err != nil {
		return nil, err
	}
	if err := standIn(path, d.path("repo")); err != nil {
		return nil, fmt.Errorf("prepare the summary: %w", err)
	}
	of, err := libostree.Open(d.path("repo"))
	if err != nil {
		return nil, err
	}
	defer of.Close()
	if err := fault.Point("make the summary", of.RegenerateSummary); err != nil {
		return nil, err
	}
	return os.ReadFile(d.path("repo/summary"))
}

// indexDeltas does the one thing that libostree does to the repository's configuration
// when it writes a summary.
func indexDeltas(repo *libostree.Repo, path string) error {
	r, err := ostree.OpenRepo(path)
	if err != nil || r.IndexesDeltas() {
		return err
	}
	return repo.IndexDeltas()
}

// standIn makes a folder that libostree takes for the repository at path.
func standIn(path, folder string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	config, err := os.ReadFile(filepath.Join(path, "config"))
	if err != nil {
		return err
	}
	parts := []string{"objects", "refs", "state"}
	if there, err := exists(path, "deltas"); err != nil {
		return err
	} else if there {
		parts = append(parts, "deltas", "delta-indexes")
		if err := os.MkdirAll(filepath.Join(path, "delta-indexes"), 0o777); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	for _, part := range parts {
		if err := os.Symlink(filepath.Join(path, part), filepath.Join(folder, part)); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(folder, "config"), config, 0o600)
}

// mostAhead is how far in the future a summary's time may lie.
const mostAhead = time.Hour

// date gives both files one time, in another second than that of the summary before: web
// servers tell versions apart by it, and a client that got "not modified" for one of the
// two would go on with a wrong pair.
func (d *draft) date() error {
	at := time.Now()
	if d.before != nil {
		last := d.before.ModTime().Truncate(time.Second)
		if at.Before(last.Add(time.Second)) && last.Sub(at) < mostAhead {
			at = last.Add(time.Second)
		}
	}
	err := os.Chtimes(d.path("summary"), at, at)
	if d.keys != nil {
		err = errors.Join(err, os.Chtimes(d.path("summary.sig"), at, at))
	}
	return err
}

// place gives a draft its names, the summary first: a client that knew the pair before
// goes on with that as long as it gets the old signature.
func (d *draft) place(repo string) error {
	err := fault.Point("name the summary", func() error {
		return os.Rename(d.path("summary"), filepath.Join(repo, "summary"))
	})
	if err != nil || d.keys == nil {
		return err
	}
	return fault.Point("name its signature", func() error {
		return os.Rename(d.path("summary.sig"), filepath.Join(repo, "summary.sig"))
	})
}

// statFile is nil for a file that is not there.
func statFile(path string) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return info, err
}
