// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/deltas"
)

// MakeDeltaCmd is the process in which the server has a static delta made: libostree
// takes much memory for that, and ends only when it is done or killed.
type MakeDeltaCmd struct {
	Repo        string `arg:"" help:"The repository."`
	Delta       string `arg:"" help:"FROM-TO or TO, checksums of commits."`
	Folder      string `arg:"" help:"An empty folder, where it is written."`
	MaxBsdiffMB uint32 `arg:"" help:"Up to which size, in MB, files are compared by bsdiff."`
}

// Run makes it, while nobody else wants to read or write the disk.
func (c *MakeDeltaCmd) Run() error {
	d, err := deltas.Parse(c.Delta)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // whose priority it is; libostree does all in this thread
	if err := idleDisk(); err != nil {
		return err
	}
	return deltas.Generate(c.Repo, d, c.Folder, c.MaxBsdiffMB)
}

// idleDisk lets this thread's reads and writes wait for all others, unless a sandbox
// does not allow it (linux/ioprio.h: IOPRIO_WHO_PROCESS, IOPRIO_CLASS_IDLE).
func idleDisk() error {
	const whoProcess, idle, classShift = 1, 3, 13
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, 0, idle<<classShift); errno != 0 && errno != unix.EPERM {
		return fmt.Errorf("lower the priority of reads and writes: %w", errno)
	}
	return nil
}
