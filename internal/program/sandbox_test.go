// SPDX-License-Identifier: AGPL-3.0-or-later

package program

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/test/must"
)

// A program runs although the sandbox of this process does not let it change priorities.
func TestSandbox(t *testing.T) {
	const inside = "PROGRAM_TEST_SANDBOX"
	if os.Getenv(inside) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestSandbox$", "-test.count=1")
		cmd.Env = append(os.Environ(), inside+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	forbid(t, unix.SYS_SETPRIORITY)
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, 19); err != unix.EPERM {
		t.Fatalf("the sandbox does not hold: %v", err)
	}
	c := shell("echo runs")
	c.Nice = 5
	said, err := Run(t.Context(), c)
	must.OK(t, err)
	if len(said) != 1 || said[0] != "runs" {
		t.Errorf("it says %q", said)
	}
}

// forbid lets a system call of all threads fail with EPERM from now on.
func forbid(t *testing.T, call uint32) {
	t.Helper()
	const number = 0 // where the number of the call is in what a filter reads
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: call},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread() // the other threads get what this one has
	defer runtime.UnlockOSThread()
	must.OK(t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	_, _, err := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if err != 0 {
		t.Skipf("no filter of system calls here: %v", err)
	}
}
