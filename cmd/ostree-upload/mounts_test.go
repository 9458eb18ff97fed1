// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"crypto/sha256"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/wire"
)

// Repository and state folder are two mounts of one file system, as the volumes
// of a container are: it is the same device, and still no file can be linked. So
// objects are copied; a power cut right after that, which leaves some bytes of a
// large one on the disk, does not get it published.
func TestPowerCutBetweenMounts(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 128<<20)
	s := &site{t: t, dir: t.TempDir()}
	s.prod = filepath.Join(s.dir, "prod")
	check(t, os.WriteFile(filepath.Join(s.dir, "ostree-upload.yaml"), []byte("limits: {min-free-space: 0}\n"), 0o600))
	s.token = strings.TrimSpace(s.run("gentoken", "--name", "ci").must(t, 0).stdout)
	mounts := []string{"prod", "state"}
	for _, name := range mounts {
		check(t, os.Mkdir(filepath.Join(d.dir, name), 0o700))
		check(t, os.Mkdir(filepath.Join(s.dir, name), 0o700))
	}
	bind := func() {
		for _, name := range mounts {
			mount(t, "--bind", filepath.Join(d.dir, name), filepath.Join(s.dir, name))
		}
	}
	unbind := func() {
		for _, name := range mounts {
			check(t, exec.Command("umount", filepath.Join(s.dir, name)).Run())
		}
	}
	bind()
	t.Cleanup(unbind)
	t.Cleanup(s.end)
	w := newTwin(t, 20)
	const large = 4 * wire.MaxPackPayload
	check(t, writeFile(filepath.Join(w.tree, "large"), randomBytes(rand.NewChaCha8(sha256.Sum256(nil)), large), 0o644))
	w.next()
	runOSTree(t, "init", "--repo="+s.prod, "--mode=archive")

	f := &mishap{point: "syncfs prod#1", effect: "kill-before", record: filepath.Join(t.TempDir(), "points")}
	var err error
	args := []string{"--repo", "prod", "--state", "state"}
	s.server, err = startProgram(faultyProgram(t), s.dir, append(os.Environ(), f.env("")...), args...)
	check(t, err)
	s.url = "http://" + s.server.address
	l := s.link()
	wait := background(t, s.command("push", "--json", "--repo", w.repo, "--retry-for", patience.String()))
	if err := s.server.wait(); err == nil || !f.hit(t) {
		t.Fatalf("the server ended before:\n%s", &s.server.log)
	}
	for path, size := range objectFiles(t, s.prod) {
		if size > large/2 {
			writeOut(t, path, large/4)
		}
	}
	disk, err := os.Open(d.dir)
	check(t, err)
	check(t, unix.IoctlSetPointerInt(int(disk.Fd()), shutDown, logFlush))
	check(t, disk.Close())
	unbind()
	check(t, d.unmount())
	check(t, d.mount())
	bind()

	s.server, err = startReceiver(s.dir, os.Environ(), args...)
	check(t, err)
	l.Target(s.server.address)
	wait().must(t, 0)
	w.whole(s, "after the power cut")
}

// mount mounts, or skips the test where that is not allowed.
func mount(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		t.Skipf("mount %v: %v\n%s", args, err, out)
	}
}

// writeOut has the kernel write the first n bytes of a file to the disk, as it
// does by itself in time.
func writeOut(t *testing.T, path string, n int64) {
	t.Helper()
	f, err := os.Open(path)
	check(t, err)
	defer f.Close()
	check(t, unix.SyncFileRange(int(f.Fd()), 0, n, unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER))
}
