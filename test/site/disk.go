// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/test/must"
)

// A Disk is a small ext4 file system of its own.
type Disk struct {
	Dir     string // where it is mounted
	t       *testing.T
	image   string
	mounted bool
}

// NewDisk mounts an empty file system of that many bytes.
func NewDisk(t *testing.T, size int64) *Disk {
	t.Helper()
	mkfs, err := exec.LookPath("mkfs.ext4")
	if errors.Is(err, exec.ErrNotFound) {
		mkfs, err = exec.LookPath("/usr/sbin/mkfs.ext4")
	}
	if os.Getuid() != 0 || err != nil {
		t.Skip("needs root and mkfs.ext4 for a file system of its own")
	}
	d := &Disk{Dir: t.TempDir(), t: t, image: filepath.Join(t.TempDir(), "image")}
	must.OK(t, os.WriteFile(d.image, nil, 0o600))
	must.OK(t, os.Truncate(d.image, size))
	if out, err := exec.Command(mkfs, "-q", "-m", "0", d.image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	if err := d.mount(); err != nil {
		t.Skipf("no loop mount here: %v", err)
	}
	t.Cleanup(func() { must.OK(t, d.unmount()) })
	return d
}

// Restore mounts the disk again after a power cut, as the next boot does.
func (d *Disk) Restore() error {
	if err := d.unmount(); err != nil {
		return err
	}
	deadline := time.Now().Add(must.Patience)
	for d.attached() {
		if time.Now().After(deadline) {
			return fmt.Errorf("another mount namespace keeps %s mounted, with the power cut", d.image)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return d.mount()
}

// RestoreOrSkip is Restore for EveryMishap, which runs a case that is skipped again.
func (d *Disk) RestoreOrSkip() {
	d.t.Helper()
	if err := d.Restore(); err != nil {
		d.t.Skip(err)
	}
}

// attached tells whether a loop device has the image. One that another process
// made a mount namespace with goes on beyond unmount, and a mount would get that
// file system again, as cut as it is.
func (d *Disk) attached() bool {
	d.t.Helper()
	devices, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	must.OK(d.t, err)
	return slices.ContainsFunc(devices, func(path string) bool {
		b, err := os.ReadFile(path)
		return err == nil && strings.TrimSpace(string(b)) == d.image
	})
}

func (d *Disk) mount() error {
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.Dir).CombinedOutput(); err != nil {
		return fmt.Errorf("mount: %w\n%s", err, out)
	}
	d.mounted = true
	return nil
}

func (d *Disk) unmount() error {
	if !d.mounted {
		return nil
	}
	deadline := time.Now().Add(must.Patience)
	for {
		out, err := exec.Command("umount", d.Dir).CombinedOutput()
		if err == nil {
			break
		}
		// What a killed server had started may be on its way out.
		if !bytes.Contains(out, []byte("busy")) || time.Now().After(deadline) {
			return fmt.Errorf("umount: %w\n%s", err, out)
		}
		time.Sleep(10 * time.Millisecond)
	}
	d.mounted = false
	return nil
}

// Left is how many bytes are free.
func (d *Disk) Left() int64 {
	d.t.Helper()
	var st unix.Statfs_t
	must.OK(d.t, unix.Statfs(d.Dir, &st))
	return int64(st.Bavail) * st.Bsize
}

// ballast is a folder of what fills the disk.
func (d *Disk) ballast() string { return filepath.Join(d.Dir, "ballast") }

// Fill leaves left bytes free, and nothing at all for 0.
func (d *Disk) Fill(left int64) {
	d.t.Helper()
	must.OK(d.t, os.MkdirAll(d.ballast(), 0o700))
	f, err := os.OpenFile(filepath.Join(d.ballast(), "bytes"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must.OK(d.t, err)
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) >= 1024; {
		if left > 0 && d.Left() <= left {
			return
		}
		if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
			block = block[:len(block)/2]
		} else {
			must.OK(d.t, err)
		}
	}
}

// UseInodes makes files until there can be no more.
func (d *Disk) UseInodes() {
	d.t.Helper()
	must.OK(d.t, os.MkdirAll(d.ballast(), 0o700))
	for i := 0; ; i++ {
		f, err := os.Create(filepath.Join(d.ballast(), fmt.Sprint(i)))
		if errors.Is(err, unix.ENOSPC) {
			return
		}
		must.OK(d.t, err)
		must.OK(d.t, f.Close())
	}
}

// Free takes away what fills it.
func (d *Disk) Free() {
	d.t.Helper()
	must.OK(d.t, os.RemoveAll(d.ballast()))
}

// Site is a site on the disk, with a min-free-space.
func (d *Disk) Site(minFree string) *Site {
	d.t.Helper()
	s := At(d.t, d.Dir)
	s.MakeToken()
	s.Configure("limits: {min-free-space: " + minFree + "}")
	d.t.Cleanup(s.End)
	s.Start("--init")
	must.OSTree(d.t, "config", "--repo="+s.Prod, "set", "core.min-free-space-size", "0MB")
	return s
}

// shutDown is the kernel's EXT4_IOC_SHUTDOWN, and these its flags
// EXT4_GOING_FLAGS_LOGFLUSH and _NOLOGFLUSH: from now on the file system writes
// nothing, not even its journal or, with the first, only that.
const (
	shutDown   = 0x8004587d
	logFlush   = 1
	noLogFlush = 2
)

// Cut makes the file system lose all that was not synced, as a power cut does.
func (d *Disk) Cut() { d.cut(noLogFlush) }

// Tear is Cut when the names were synced: files stay, and lose their bytes.
func (d *Disk) Tear() { d.cut(logFlush) }

func (d *Disk) cut(flag int) {
	d.t.Helper()
	f, err := os.Open(d.Dir)
	must.OK(d.t, err)
	defer f.Close()
	must.OK(d.t, unix.IoctlSetPointerInt(int(f.Fd()), shutDown, flag))
}

// Sync makes a file and syncs it, as other programs on the machine do: the names
// of all files become durable, long before their bytes.
func (d *Disk) Sync() error {
	f, err := os.CreateTemp(d.Dir, "other")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), os.Remove(f.Name()))
}

// Syncing syncs again and again until the power is cut.
func (d *Disk) Syncing() {
	for d.Sync() == nil {
	}
}

// Damage changes a byte of a file's content on the disk, behind the back of the
// file system.
func (d *Disk) Damage(content []byte) {
	d.t.Helper()
	b, err := os.ReadFile(d.image)
	must.OK(d.t, err)
	at := bytes.Index(b, content)
	if at < 0 {
		d.t.Fatal("the content is not on the disk in one piece")
	}
	f, err := os.OpenFile(d.image, os.O_WRONLY, 0)
	must.OK(d.t, err)
	_, err = f.WriteAt([]byte{^content[len(content)/2]}, int64(at+len(content)/2))
	must.OK(d.t, err)
	must.OK(d.t, f.Close())
}
