// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"crypto/sha256"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// Repository and state folder are two mounts of one file system, as the volumes
// of a container are: it is the same device, and still no file can be linked. So
// objects are copied; a power cut right after that, which leaves some bytes of a
// large one on the disk, does not get it published.
func TestPowerCutBetweenMounts(t *testing.T) {
	t.Parallel()
	d := site.NewDisk(t, 128<<20)
	s := site.At(t, t.TempDir())
	s.MakeToken()
	s.Configure("limits: {min-free-space: 0}")
	mounts := []string{"prod", "state"}
	for _, name := range mounts {
		must.OK(t, os.Mkdir(filepath.Join(d.Dir, name), 0o700))
		must.OK(t, os.Mkdir(filepath.Join(s.Dir, name), 0o700))
	}
	bind := func() {
		for _, name := range mounts {
			mount(t, "--bind", filepath.Join(d.Dir, name), filepath.Join(s.Dir, name))
		}
	}
	unbind := func() {
		for _, name := range mounts {
			must.OK(t, exec.Command("umount", filepath.Join(s.Dir, name)).Run())
		}
	}
	bind()
	t.Cleanup(unbind)
	t.Cleanup(s.End)
	w := site.NewTwin(t, 20)
	const large = 4 * wire.MaxPackPayload
	must.OK(t, site.WriteFile(filepath.Join(w.Tree, "large"), site.RandomBytes(rand.NewChaCha8(sha256.Sum256(nil)), large), 0o644))
	w.Next()
	must.OSTree(t, "init", "--repo="+s.Prod, "--mode=archive")

	f := &site.Mishap{Point: "syncfs prod#1", Effect: "kill-before", Record: filepath.Join(t.TempDir(), "points")}
	var err error
	args := []string{"--repo", "prod", "--state", "state"}
	s.Server, err = site.StartProgram(site.FaultyProgram(t), s.Dir, append(os.Environ(), f.Env("")...), args...)
	must.OK(t, err)
	s.URL = "http://" + s.Server.Address
	l := s.Link()
	wait := site.Background(t, s.Command("push", "--json", "--repo", w.Repo, "--retry-for", must.Patience.String()))
	if err := s.Server.Wait(); err == nil || !f.Hit(t) {
		t.Fatalf("the server ended before:\n%s", &s.Server.Log)
	}
	for path, size := range site.ObjectFiles(t, s.Prod) {
		if size > large/2 {
			writeOut(t, path, large/4)
		}
	}
	d.Tear()
	unbind()
	must.OK(t, d.Restore())
	bind()

	s.Server, err = site.StartReceiver(s.Dir, os.Environ(), args...)
	must.OK(t, err)
	l.Target(s.Server.Address)
	wait().Must(t, 0)
	w.Whole(s, "after the power cut")
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
	must.OK(t, err)
	defer f.Close()
	must.OK(t, unix.SyncFileRange(int(f.Fd()), 0, n, unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER))
}
