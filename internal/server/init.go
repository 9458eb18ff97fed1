// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/fault"
	"github.com/lirios/ostree-upload/internal/libostree"
)

// initRepo creates an archive repository with a summary, unless there is one. A
// mark stands beside it until all is durable; a start that finds it begins anew,
// unless objects came meanwhile.
// Without it nobody could tell a repository that is to have no summary from one
// that has none yet, and libostree syncs nothing of what it makes here.
func initRepo(path string) error {
	if err := initOnce(path); err != nil {
		return fmt.Errorf("--init: %w", err)
	}
	return nil
}

func initOnce(path string) error {
	mark := filepath.Join(path, ".ostree-upload.init")
	config, objects := filepath.Join(path, "config"), filepath.Join(path, "objects")
	if missing(mark) && (!missing(config) || !missing(objects)) {
		return nil
	}
	// Who starts without --init after the crash uses what is there.
	used, err := fs.Glob(os.DirFS(objects), "*/*")
	if err != nil {
		return err
	}
	if len(used) > 0 {
		return durable.Remove(mark)
	}
	if err := errors.Join(os.MkdirAll(path, 0o777), durable.RemoveTemporary(mark)); err != nil {
		return err
	}
	if err := durable.Create(mark, func(string) error { return nil }); err != nil {
		return err
	}
	// libostree keeps what is there, even if a power cut has damaged it.
	for _, part := range []string{objects, config} {
		if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := fault.Point("create the repository", func() error { return libostree.Init(path, "archive") }); err != nil {
		return err
	}
	if err := fault.Point("write the first summary", func() error { return firstSummary(path) }); err != nil {
		return err
	}
	if err := durable.SyncFS(path); err != nil {
		return err
	}
	return durable.Remove(mark)
}

func firstSummary(path string) error {
	repo, err := libostree.Open(path)
	if err != nil {
		return err
	}
	defer repo.Close()
	return repo.RegenerateSummary()
}
