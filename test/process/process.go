// SPDX-License-Identifier: AGPL-3.0-or-later

// Package process measures and ends programs that a test or a tool has started.
package process

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// Stop ends a process by SIGTERM, and by SIGKILL if it takes longer than grace.
// It returns once ended, which follows from the process's end, is closed or gets
// how that was; killed tells whether the grace was over.
func Stop[E any](p *os.Process, ended <-chan E, grace time.Duration) (killed bool) {
	_ = p.Signal(syscall.SIGTERM) // fails where it has ended
	select {
	case <-ended:
		return false
	case <-time.After(grace):
	}
	_ = p.Kill()
	<-ended
	return true
}

var peak = regexp.MustCompile(`(?m)^VmHWM:\s*(\d+) kB$`)

// PeakMemory is the most bytes that a running process has had in memory. Not from
// its rusage, which begins with the memory of the process that started it.
func PeakMemory(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	m := peak.FindSubmatch(b)
	if m == nil {
		return 0, fmt.Errorf("process %d has no VmHWM", pid)
	}
	kb, err := strconv.ParseInt(string(m[1]), 10, 64)
	return kb << 10, err
}
