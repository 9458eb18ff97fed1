// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/background"
	"github.com/lirios/ostree-upload/test/must"
)

// slowThreads are this process's threads of low priority.
func slowThreads(t *testing.T) map[string]bool {
	t.Helper()
	slow := make(map[string]bool)
	paths, err := filepath.Glob("/proc/self/task/*/stat")
	must.OK(t, err)
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil { // it has just ended
			continue
		}
		const nice = 16 // counted from the state, which follows the name
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if fields[nice] == strconv.Itoa(background.Niceness) {
			slow[path] = true
		}
	}
	return slow
}

// What inflates to gigabytes is verified on a thread of low priority, and what is
// short is not.
func TestLongObjectIsSlow(t *testing.T) {
	if n, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err != nil || 20-n >= background.Niceness { // as the system call tells it
		t.Skip("all threads of this process have a low priority: run the test without nice")
	}
	f := newFixture(t)
	before := slowThreads(t) // of tests before this one, about to end
	another := func() bool {
		for thread := range slowThreads(t) {
			if !before[thread] {
				return true
			}
		}
		return false
	}
	f.stage()
	if another() {
		t.Error("a thread is slow after short uploads")
	}
	n, b := bomb()
	f.add(n)
	f.send(n.String(), len(b), b)
	must.Wait(t, "the long object's thread is slow", another)
}
