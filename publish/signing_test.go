// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/publish"
	"github.com/lirios/ostree-upload/test/must"
)

// unsigned makes a repository with a summary as another program writes it.
func unsigned(t *testing.T) (repo string) {
	t.Helper()
	repo, _ = build(t, "one")
	must.OSTree(t, "summary", "--repo="+repo, "-u")
	return repo
}

// sameFile tells whether an open file is still the one at a path.
func sameFile(t *testing.T, f *os.File, path string) bool {
	t.Helper()
	is, err := f.Stat()
	must.OK(t, err)
	at, err := os.Stat(path)
	must.OK(t, err)
	return os.SameFile(is, at)
}

// lockedAlone tells whether somebody has the exclusive lock of a repository.
func lockedAlone(t *testing.T, repo string) bool {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(repo, ".lock"), os.O_RDWR, 0)
	must.OK(t, err)
	defer f.Close()
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return true
	}
	must.OK(t, err)
	return false
}

// A summary that another program wrote just now is not written before its signature
// had time to follow; meanwhile nobody else begins to write one. With the signature
// it is left alone.
func TestSummaryIsBeingSigned(t *testing.T) {
	repo := unsigned(t)
	before := summaryFiles(t, repo)
	written := make(chan struct{})
	var why string
	var err error
	go func() {
		defer close(written)
		why, err = publish.WriteSummary(repo, time.Hour, false)
	}()
	must.Wait(t, "the summary waits for its signature", func() bool {
		select {
		case <-written:
			t.Fatalf("it did not wait: %q, %v", why, err)
		default:
		}
		return lockedAlone(t, repo)
	})
	must.OK(t, os.WriteFile(filepath.Join(repo, "summary.sig"), []byte("x"), 0o644))
	<-written
	if err != nil || !strings.Contains(why, "summary.sig") {
		t.Errorf("it says %q, %v", why, err)
	}
	if now := summaryFiles(t, repo); now != before+"summary.sig: x\n" {
		t.Errorf("it was\n%q\nand is\n%q", before, now)
	}
}

// No signature is awaited for a summary of the server's own, nor for one that has
// stayed without for a while.
func TestSummaryStaysUnsigned(t *testing.T) {
	for name, tt := range map[string]struct {
		age   time.Duration
		known bool
	}{
		"its own": {0, true},
		"old":     {2 * time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			repo := unsigned(t)
			path, at := filepath.Join(repo, "summary"), time.Now().Add(-tt.age)
			must.OK(t, os.Chtimes(path, at, at))
			before, err := os.Open(path) // kept open, so that its inode is not used again
			must.OK(t, err)
			defer before.Close()
			why, err := publish.WriteSummary(repo, time.Hour, tt.known)
			if why != "" || err != nil || sameFile(t, before, path) {
				t.Errorf("it says %q, %v; or it did not write", why, err)
			}
		})
	}
}
