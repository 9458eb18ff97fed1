// SPDX-License-Identifier: AGPL-3.0-or-later

package publish

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// linkAll gives the staged objects that an archive repository has no copy of
// their names there, as far as they can be linked. The others stay importable:
// from another file system or mount, and those with too many names already.
//
// libostree would do that too, but where it cannot link, it copies, which needs
// a transaction to survive a power cut. Nothing but the call itself tells.
func (r *diskChange) linkAll(c *closure) error {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, folder := range c.folders {
		g.Go(func() error {
			for _, is := range folder {
				if is == importable {
					return r.linkFolder(fmt.Sprintf("objects/%02x", i), folder)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// linkFolder does so for the objects of one folder, of that name in both
// repositories.
func (r *diskChange) linkFolder(name string, folder map[ostree.Name]place) error {
	from, err := os.Open(filepath.Join(r.stagedPath, name))
	if err != nil {
		return err
	}
	defer from.Close()
	path := filepath.Join(r.path, name)
	if err := os.Mkdir(path, 0o777); err != nil && !errors.Is(err, fs.ErrExist) { // as libostree does
		return err
	}
	to, err := os.Open(path)
	if err != nil {
		return err
	}
	defer to.Close()
	for n, is := range folder {
		if is != importable {
			continue
		}
		file := n.String()[2:]
		switch err := unix.Linkat(int(from.Fd()), file, int(to.Fd()), file, 0); err {
		case nil:
			folder[n] = published
		case unix.EEXIST:
			there, err := r.repo.Has(n)
			if err != nil {
				return err
			}
			folder[n] = replaceable
			if there {
				folder[n] = published
			}
		case unix.EXDEV, unix.EPERM, unix.EMLINK:
		default:
			return fmt.Errorf("link object %s into the repository: %w", n, err)
		}
	}
	return nil
}
