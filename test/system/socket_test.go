// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// socketSite is the site of a server at a unix socket, which is not started yet.
func socketSite(t *testing.T) (s *site.Site, path string) {
	t.Helper()
	s = site.At(t, t.TempDir())
	s.MakeToken()
	t.Cleanup(s.End)
	return s, filepath.Join(s.Dir, "socket")
}

// at starts the server at the socket.
func at(s *site.Site, path string) {
	s.T.Helper()
	s.Start("--init", "--address", "unix:"+path)
	s.URL = "unix:" + path
}

// A push goes over a unix socket, with all that belongs to it. The owner and the group
// alone may connect; a server that stops takes the socket away, and one that is killed
// leaves it to the next.
func TestPushOverSocket(t *testing.T) {
	t.Parallel()
	s, path := socketSite(t)
	at(s, path)
	if s.Server.Address != "unix:"+path {
		t.Errorf("it listens at %s", s.Server.Address)
	}
	st, err := os.Stat(path)
	must.OK(t, err)
	if st.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("the socket has mode %v", st.Mode())
	}
	b := site.Small(t, "os/x86_64/stable", "over a socket")
	s.Push(b)
	site.Published(t, b, s.Prod)
	if from := fmt.Sprint(" remote=unix:", os.Geteuid(), " "); !strings.Contains(s.Server.Log.String(), from) {
		t.Errorf("the log does not tell who pushed:\n%s", &s.Server.Log)
	}
	if list := s.Sessions("published"); len(list) != 1 {
		t.Errorf("%d sessions", len(list))
	}
	must.OK(t, s.Server.Stop())
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("after a stop: %v", err)
	}
	at(s, path)
	s.Server.Kill()
	at(s, path)
	s.Sessions("open")
}

// What another program has at the path stays there.
func TestSocketOfAnotherProgram(t *testing.T) {
	t.Parallel()
	s, path := socketSite(t)
	l, err := net.Listen("unix", path)
	must.OK(t, err)
	refused := func(says string) {
		t.Helper()
		e := s.Run("receive", "--repo", "prod", "--init", "--address", "unix://"+path).Must(t, 1)
		if !strings.Contains(e.Stderr, says) || !strings.Contains(e.Stderr, "\nhint: ") {
			t.Errorf("it says %s", e.Stderr)
		}
	}
	refused("another program listens there")
	must.OK(t, l.Close())
	must.OK(t, os.WriteFile(path, nil, 0o600))
	refused("there is a file that is no socket")
	path += strings.Repeat("x", 108)
	if e := s.Run("receive", "--repo", "prod", "--address", "unix:"+path).Must(t, 2); !strings.Contains(e.Stderr, "bytes, and can have 107") {
		t.Errorf("it says %s", e.Stderr)
	}
}

// A server that stops leaves a socket that another program has made in the place of its
// own meanwhile.
func TestSocketInItsPlace(t *testing.T) {
	t.Parallel()
	s, path := socketSite(t)
	at(s, path)
	must.OK(t, os.Remove(path))
	l, err := net.Listen("unix", path)
	must.OK(t, err)
	defer l.Close()
	must.OK(t, s.Server.Stop())
	conn, err := net.Dial("unix", path)
	must.OK(t, err)
	must.OK(t, conn.Close())
}

// What is wrong with the path of a socket is all that is said, and what to do.
func TestSocketThatCannotBe(t *testing.T) {
	t.Parallel()
	s, path := socketSite(t)
	s.Configure("metrics-address: unix:" + path)
	e := s.Run("receive", "--config", "ostree-upload.yaml", "--repo", "prod", "--init", "--address", "unix:"+path).Must(t, 1)
	if !strings.Contains(e.Stderr, "another program listens there\nhint: ") {
		t.Errorf("two at one path: %s", e.Stderr)
	}
	e = s.Run("receive", "--repo", "prod", "--init", "--address", "unix:"+path+"/lacking/s").Must(t, 1)
	if !strings.Contains(e.Stderr, "hint: make the folder") {
		t.Errorf("no folder: %s", e.Stderr)
	}
}

// Root makes the socket in a folder of its own, for the owner of the repository.
func TestSocketMadeByRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it becomes another user")
	}
	dir := t.TempDir()
	must.OK(t, os.Chmod(filepath.Dir(dir), 0o755))
	must.OK(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "socket")
	for range 2 { // its owner cannot remove it, and root replaces it
		s := ownedSite(t, "--address", "unix:"+path)
		var st unix.Stat_t
		must.OK(t, unix.Stat(path, &st))
		if st.Uid != foreignOwner || st.Gid != foreignOwner || st.Mode&0o777 != 0o660 {
			t.Errorf("the socket is of user %d, group %d, mode %o", st.Uid, st.Gid, st.Mode&0o777)
		}
		s.URL = "unix:" + path
		s.Sessions("open")
		must.OK(t, s.Server.Stop())
	}
}
