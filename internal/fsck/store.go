// SPDX-License-Identifier: AGPL-3.0-or-later

package fsck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// A Store is where the objects of a repository are. It may be used concurrently.
type Store interface {
	// List visits the objects of a folder of objects/; size tells how many bytes one has there.
	List(ctx context.Context, folder string, visit func(n ostree.Name, size func() int64) error) error
	// Requests is how many objects are asked for at a time; 0: nobody is asked.
	Requests() int
	// Rewrite says how a damaged ref is written again.
	Rewrite(ref string) string
}

// OnDisk is the store of a repository on the disk.
func OnDisk(repo *ostree.Repo) Store { return disk{repo} }

type disk struct{ repo *ostree.Repo }

func (disk) Requests() int { return 0 }

func (d disk) Rewrite(ref string) string {
	return fmt.Sprintf("echo COMMIT > %s", filepath.Join(d.repo.Path(), "refs/heads", ref))
}

func (d disk) List(_ context.Context, folder string, visit func(n ostree.Name, size func() int64) error) error {
	entries, err := os.ReadDir(filepath.Join(d.repo.Path(), "objects", folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := folder + e.Name()
		if filepath.Ext(name) == ".file" {
			name += "z" // as objects are named whatever the mode
		}
		n, err := ostree.ParseName(name)
		if err != nil {
			continue
		}
		if err := visit(n, func() int64 { return sizeOf(e) }); err != nil {
			return err
		}
	}
	return nil
}

// sizeOf is 0 if nobody can tell: whoever verifies the object says why.
func sizeOf(e fs.DirEntry) int64 {
	info, err := e.Info()
	if err != nil {
		return 0
	}
	return info.Size()
}
