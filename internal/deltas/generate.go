// SPDX-License-Identifier: AGPL-3.0-or-later

package deltas

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/program"
)

// Generate writes a delta into a folder and makes it durable. It takes long and much
// memory, which libostree does not let go when it is told to stop: it is for a process
// of its own. maxBsdiff is in MB, as libostree's max-bsdiff-size.
func Generate(repo string, d Delta, folder string, maxBsdiff uint32) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // nothing is written to it
	r, err := libostree.Open(repo)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.GenerateDelta(d.Source(), d.To, folder, maxBsdiff); err != nil {
		return err
	}
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync a static delta: %w", err)
	}
	return nil
}

// lowestPriority is by how much the priority of that process is lower than the server's.
const lowestPriority = 19

// InProcess runs Generate in a process of its own, by this program's command make-delta.
func InProcess(repo string) func(context.Context, Settings, Delta, string) error {
	return func(ctx context.Context, s Settings, d Delta, folder string) error {
		said, err := program.Run(ctx, program.Command{
			Args: []string{"/proc/self/exe", "make-delta", repo, d.String(), folder, fmt.Sprint(s.MaxBsdiff)},
			Env:  []string{"TMPDIR=" + filepath.Join(repo, "tmp")}, // libostree unpacks files there, which may be large
			Nice: lowestPriority, Timeout: s.Timeout,
		})
		var ended *program.Error
		if errors.As(err, &ended) && ended.Ran() && len(said) > 0 {
			return errors.New(strings.TrimPrefix(said[0], "ostree-upload: "))
		}
		return err
	}
}
