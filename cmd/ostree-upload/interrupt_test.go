// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/push"
)

// A signal ends a push also while it converts one huge file of a build repository
// that is not in archive mode, here a terabyte of holes, which would take hours.
func TestInterruptConversion(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	check(t, os.WriteFile(filepath.Join(tree, "huge"), []byte("small"), 0o644))
	repo := filepath.Join(t.TempDir(), "build")
	commitIn(t, repo, "bare-user", "os/huge", tree, canonical...)
	object := filepath.Join(repo, "objects", onlyFile(t, repo, "*.file").Path())
	object = strings.TrimSuffix(object, "z")
	check(t, os.Truncate(object, 1<<40))
	s := newSite(t)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for _, dry := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, dry run %v", signal, dry), func(t *testing.T) {
				cmd := s.command("push", "--repo", repo, fmt.Sprintf("--dry-run=%v", dry))
				wait := background(t, cmd)
				ended := make(chan ending, 1)
				go func() { ended <- wait() }()
				for !reads(cmd.Process.Pid, object) {
					select {
					case e := <-ended:
						t.Fatalf("it ended with %d\n%s", e.exit, e.stderr)
					case <-time.After(time.Millisecond):
					}
				}
				check(t, cmd.Process.Signal(signal))
				e := (<-ended).must(t, push.ExitInterrupted)
				if resume := strings.Contains(e.stderr, "hint: go on with: ostree-upload push"); resume == dry || e.stdout != "" {
					t.Errorf("stdout %q, stderr:\n%s", e.stdout, e.stderr)
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
