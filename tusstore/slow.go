// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// longObject is after how many steps of its verification an object counts as long:
// 64 MiB of it, stored or inflated. slowNice is the niceness of its thread from then
// on.
const (
	longObject = 1024
	slowNice   = 10
)

// slowDown gives the calling goroutine a thread of its own, which uses the processor
// only as far as others leave it: a few small uploads that inflate to gigabytes would
// else slow each request and each publish. Threads that others ask for do not
// inherit this, and the thread ends with the goroutine.
func slowDown() {
	runtime.LockOSThread()
	// On Linux 0 is the calling thread. Where a sandbox forbids the call, the task goes
	// on as it did before.
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, slowNice)
}
