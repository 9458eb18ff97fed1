// SPDX-License-Identifier: AGPL-3.0-or-later

// Package background is for work that takes long and that nobody waits for by the
// second: it leaves the processors to whoever does.
package background

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Niceness is that of threads in the background.
const Niceness = 10

// Thread gives the calling goroutine a thread of its own, which uses the processor
// only as far as others leave it. Threads that others ask for do not inherit this, and
// the thread ends with the goroutine.
func Thread() {
	runtime.LockOSThread()
	// On Linux 0 is the calling thread. Where a sandbox forbids the call, the goroutine
	// goes on as it did before.
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, Niceness)
}
