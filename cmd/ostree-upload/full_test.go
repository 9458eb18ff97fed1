// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
)

// A disk is a small ext4 file system of its own.
type disk struct {
	t          *testing.T
	image, dir string
}

// newDisk mounts an empty file system of that many bytes.
func newDisk(t *testing.T, size int64) *disk {
	t.Helper()
	mkfs, err := exec.LookPath("mkfs.ext4")
	if errors.Is(err, exec.ErrNotFound) {
		mkfs, err = exec.LookPath("/usr/sbin/mkfs.ext4")
	}
	if os.Getuid() != 0 || err != nil {
		t.Skip("needs root and mkfs.ext4 for a file system of its own")
	}
	d := &disk{t, filepath.Join(t.TempDir(), "image"), t.TempDir()}
	check(t, os.WriteFile(d.image, nil, 0o600))
	check(t, os.Truncate(d.image, size))
	if out, err := exec.Command(mkfs, "-q", "-m", "0", d.image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	if err := d.mount(); err != nil {
		t.Skipf("no loop mount here: %v", err)
	}
	t.Cleanup(func() {
		if err := d.unmount(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *disk) mount() error {
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("mount: %w\n%s", err, out)
	}
	return nil
}

func (d *disk) unmount() error {
	if out, err := exec.Command("umount", d.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("umount: %w\n%s", err, out)
	}
	return nil
}

// left is how many bytes are free.
func (d *disk) left() int64 {
	d.t.Helper()
	var st unix.Statfs_t
	check(d.t, unix.Statfs(d.dir, &st))
	return int64(st.Bavail) * st.Bsize
}

// ballast is a folder of what fills the disk.
func (d *disk) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill leaves left bytes free, and nothing at all for 0.
func (d *disk) fill(left int64) {
	d.t.Helper()
	check(d.t, os.MkdirAll(d.ballast(), 0o700))
	f, err := os.OpenFile(filepath.Join(d.ballast(), "bytes"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	check(d.t, err)
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) >= 1024; {
		if left > 0 && d.left() <= left {
			return
		}
		if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
			block = block[:len(block)/2]
		} else {
			check(d.t, err)
		}
	}
}

// useInodes makes files until there can be no more.
func (d *disk) useInodes() {
	d.t.Helper()
	check(d.t, os.MkdirAll(d.ballast(), 0o700))
	for i := 0; ; i++ {
		f, err := os.Create(filepath.Join(d.ballast(), fmt.Sprint(i)))
		if errors.Is(err, unix.ENOSPC) {
			return
		}
		check(d.t, err)
		check(d.t, f.Close())
	}
}

// free takes away what fills it.
func (d *disk) free() {
	d.t.Helper()
	check(d.t, os.RemoveAll(d.ballast()))
}

// site is a site on the disk, with a min-free-space.
func (d *disk) site(minFree string) *site {
	d.t.Helper()
	s := &site{t: d.t, dir: d.dir, prod: filepath.Join(d.dir, "prod")}
	s.token = strings.TrimSpace(s.run("gentoken", "--name", "ci").must(d.t, 0).stdout)
	config := filepath.Join(d.dir, "ostree-upload.yaml")
	b, err := os.ReadFile(config)
	check(d.t, err)
	check(d.t, os.WriteFile(config, append(b, "limits: {min-free-space: "+minFree+"}\n"...), 0o600))
	d.t.Cleanup(s.end)
	s.start("--init")
	runOSTree(d.t, "config", "--repo="+s.prod, "set", "core.min-free-space-size", "0MB")
	return s
}

// A disk that fills up ends a push for now, with words and a hint. Nothing is
// broken, the session lives, and goes on when there is room again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		minFree string
		before  func(*disk)
		at      int64 // in percent of the payload: when midway happens
		midway  func(*disk)
		detail  string
	}{
		"no bytes from the start": {"0", func(d *disk) { d.fill(1 << 20) }, 0, nil, "min-free-space"},
		"no bytes midway":         {"0", nil, 40, func(d *disk) { d.fill(0) }, ""},
		"no bytes near the end":   {"0", nil, 95, func(d *disk) { d.fill(0) }, ""},
		"no inodes midway":        {"0", nil, 40, (*disk).useInodes, ""},
		"min-free-space":          {"16MiB", func(d *disk) { d.fill(18 << 20) }, 0, nil, "min-free-space"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk(t, 64<<20)
			s, w := d.site(c.minFree), newTwin(t, 500)
			w.next()
			l := s.link()
			if c.before != nil {
				c.before(d)
			}
			if c.midway != nil {
				l.At(w.payload*c.at/100, func() { c.midway(d) })
			}
			for range 2 { // the second one finds it full
				e := s.run("push", "--json", "--repo", w.repo, "--jobs", "2").must(t, push.ExitForNow)
				r := e.result(t)
				if r.ErrorCode != wire.InsufficientStorage || !strings.Contains(r.Error, c.detail) || !strings.Contains(e.stderr, "hint: go on with: ") {
					t.Errorf("it was told %s: %s", r.ErrorCode, e.stderr)
				}
				t.Log(r.Error)
			}
			if left := d.left(); c.minFree != "0" && left < 12<<20 { // a pack may be there twice, until it is ingested
				t.Errorf("only %d bytes are left of the min-free-space", left)
			}
			session := s.openSession()
			check(t, s.server.stop())
			w.sound(s, "full")
			d.free()
			s.restart(l)
			if again := s.push(&w.build, "--resume", session.ID); again.Session.ID != session.ID {
				t.Errorf("session %s, want %s", again.Session.ID, session.ID)
			}
			w.arrived(s)
			check(t, s.server.stop())
			if notes := w.sound(s, "done"); leftBehind(notes) {
				t.Errorf("left behind: %s", notes)
			}
		})
	}
}
