// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// A signal ends a push also while it converts one huge file of a build repository
// that is not in archive mode, here a terabyte of holes, which would take hours.
func TestInterruptConversion(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	must.OK(t, os.WriteFile(filepath.Join(tree, "huge"), []byte("small"), 0o644))
	repo := filepath.Join(t.TempDir(), "build")
	site.Commit(t, repo, "bare-user", "os/huge", tree, site.Canonical...)
	object := filepath.Join(repo, "objects", onlyFile(t, repo, "*.file").Path())
	object = strings.TrimSuffix(object, "z")
	must.OK(t, os.Truncate(object, 1<<40))
	s := site.At(t, t.TempDir())
	s.MakeToken()
	s.Configure("limits: {max-object-size: 0}")
	t.Cleanup(s.End)
	s.Start("--init")
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for _, dry := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, dry run %v", signal, dry), func(t *testing.T) {
				cmd := s.Command("push", "--repo", repo, fmt.Sprintf("--dry-run=%v", dry))
				wait := site.Background(t, cmd)
				ended := make(chan site.Ending, 1)
				go func() { ended <- wait() }()
				must.Wait(t, "the push reads the file", func() bool {
					select {
					case e := <-ended:
						t.Fatalf("it ended with %d\n%s", e.Exit, e.Stderr)
					default:
					}
					return reads(cmd.Process.Pid, object)
				})
				must.OK(t, cmd.Process.Signal(signal))
				e := (<-ended).Must(t, push.ExitInterrupted)
				if resume := strings.Contains(e.Stderr, "hint: go on with: ostree-upload push"); resume == dry || e.Stdout != "" {
					t.Errorf("stdout %q, stderr:\n%s", e.Stdout, e.Stderr)
				}
			})
		}
	}
}

// reads tells whether a process has a file open.
func reads(pid int, path string) bool {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)) // the pattern is sound
	return slices.ContainsFunc(fds, func(fd string) bool {
		to, err := os.Readlink(fd)
		return err == nil && to == path
	})
}
