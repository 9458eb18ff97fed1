// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build faults

// Package fault names the points at which a crash test stops the process or
// lets a call fail. This build of it does so, as the environment says:
//
//	FAULT_RECORD  a file to which each point is added when the process comes to
//	              it: number, name and, after #, how often it came to that name
//	FAULT_AT      the point, as recorded but without the number
//	FAULT_DO      what happens there, an Effect
//	FAULT_DISK    a folder on the ext4 file system that is cut off
//	FAULT_UNTIL   the file that Hold waits for
package fault

import (
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What can happen at a point.
const (
	KillBefore = "kill-before" // SIGKILL instead of the call
	KillAfter  = "kill-after"  // SIGKILL once the call has returned
	EIO        = "EIO"         // the call is not made and fails
	ENOSPC     = "ENOSPC"
	CutBefore  = "cut-before" // as the kills, and what was not synced is lost
	CutAfter   = "cut-after"
	TearBefore = "tear-before" // as the cuts, but files keep their names and lose their bytes
	TearAfter  = "tear-after"
	Hold       = "hold" // the call is made once a file is there
)

var (
	mu     sync.Mutex
	number int
	visits = map[string]int{}
)

// Point calls do and returns its error, unless something is to happen here.
func Point(name string, do func() error) error {
	switch effect(name) {
	case KillBefore:
		kill()
	case KillAfter:
		_ = do() // whatever came of it, nobody learns
		kill()
	case CutBefore:
		cut(noLogFlush)
	case CutAfter:
		_ = do()
		cut(noLogFlush)
	case TearBefore:
		cut(logFlush)
	case TearAfter:
		_ = do()
		cut(logFlush)
	case Hold:
		hold()
	case EIO:
		return &fs.PathError{Op: "write", Path: name, Err: unix.EIO}
	case ENOSPC:
		return &fs.PathError{Op: "write", Path: name, Err: unix.ENOSPC}
	}
	return do()
}

// effect records a visit and tells what is to happen.
func effect(name string) string {
	mu.Lock()
	defer mu.Unlock()
	number++
	visits[name]++
	point := fmt.Sprintf("%s#%d", name, visits[name])
	if path := os.Getenv("FAULT_RECORD"); path != "" {
		record(path, fmt.Sprintf("%d %s\n", number, point))
	}
	if point == os.Getenv("FAULT_AT") {
		return os.Getenv("FAULT_DO")
	}
	return ""
}

func record(path, line string) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		_, err = f.WriteString(line)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		panic(err)
	}
}

func hold() {
	for {
		_, err := os.Stat(os.Getenv("FAULT_UNTIL"))
		if err == nil {
			return
		}
		if !os.IsNotExist(err) {
			panic(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func kill() {
	if err := unix.Kill(os.Getpid(), unix.SIGKILL); err != nil {
		panic(err)
	}
	select {} // until it arrives
}

// EXT4_IOC_SHUTDOWN and its flags EXT4_GOING_FLAGS_LOGFLUSH and _NOLOGFLUSH, of
// the kernel's fs/ext4/ext4.h: whether the file system's journal, with the names
// in it, is written before all writing ends.
const (
	ext4Shutdown = 0x8004587d
	logFlush     = 1
	noLogFlush   = 2
)

func cut(flag int) {
	disk, err := os.Open(os.Getenv("FAULT_DISK"))
	if err == nil {
		err = unix.IoctlSetPointerInt(int(disk.Fd()), ext4Shutdown, flag)
	}
	if err != nil {
		panic(err)
	}
	kill()
}
