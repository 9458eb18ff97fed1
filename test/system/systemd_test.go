// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// A supervisor is what a service tells systemd, as sd_notify(3) has it. It reads all the
// time: the kernel keeps ten messages, and then the service waits.
type supervisor struct {
	t    *testing.T
	conn *net.UnixConn
	told chan string
}

func newSupervisor(t *testing.T) *supervisor {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	must.OK(t, err)
	t.Cleanup(func() { conn.Close() })
	s := &supervisor{t, conn, make(chan string, 1<<16)}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return // closed
			}
			s.told <- string(b[:n])
		}
	}()
	return s
}

// next is the next message.
func (s *supervisor) next() string {
	s.t.Helper()
	select {
	case told := <-s.told:
		return told
	case <-time.After(must.Patience):
		s.t.Fatal("it tells nothing more")
		return ""
	}
}

// await reads messages until one matches, and returns those before.
func (s *supervisor) await(pattern string) (before string) {
	s.t.Helper()
	for {
		got := s.next()
		if regexp.MustCompile(pattern).MatchString(got) {
			return before
		}
		before += got + "\n"
	}
}

// What a service of Type=notify tells systemd: that it takes time to start, that it
// answers, that it reads its files again, that it is well as often as the watchdog
// wants, but not while it is not, and that it stops.
func TestTellsSystemd(t *testing.T) {
	t.Parallel()
	manager, s := newSupervisor(t), site.At(t, t.TempDir())
	s.MakeToken()
	t.Cleanup(s.End)
	env := append(os.Environ(), "NOTIFY_SOCKET="+manager.conn.LocalAddr().String(), "WATCHDOG_USEC=200000")
	var err error
	s.Server, err = site.StartReceiver(s.Dir, env, "--repo", "prod", "--init")
	must.OK(t, err)
	if got := manager.next(); got != "STATUS=starting\nEXTEND_TIMEOUT_USEC=60000000" {
		t.Errorf("first it tells %q", got)
	}
	manager.await("^READY=1\nSTATUS=receiving at " + regexp.QuoteMeta(s.Server.Address) + "$")
	manager.await(`^WATCHDOG=1\n`)
	must.OK(t, s.Server.Process.Signal(syscall.SIGHUP))
	manager.await(`^RELOADING=1\nMONOTONIC_USEC=\d+\n$`)
	manager.await(`^READY=1$`)

	heads := filepath.Join(s.Prod, "refs/heads")
	must.OK(t, os.Rename(heads, heads+".away"))
	manager.await("^STATUS=not healthy: .*refs/heads")
	must.OK(t, s.Server.Process.Signal(syscall.SIGHUP))
	if before := manager.await(`^READY=1$`); strings.Contains(before, "WATCHDOG") {
		t.Errorf("the watchdog is answered although the repository is gone:\n%s", before)
	}
	must.OK(t, os.Rename(heads+".away", heads))
	manager.await(`^WATCHDOG=1\nSTATUS=receiving at`)

	must.OK(t, s.Server.Stop())
	manager.await("^STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=60000000$")
}

// A server that waits for the end of another one tells so.
func TestTellsSystemdThatItWaits(t *testing.T) {
	t.Parallel()
	manager, s := newSupervisor(t), site.New(t)
	cmd := exec.Command("ostree-upload", "receive", "--repo", "prod", "--address", "127.0.0.1:0")
	cmd.Dir, cmd.Env = s.Dir, append(os.Environ(), "NOTIFY_SOCKET="+manager.conn.LocalAddr().String())
	next, err := site.Launch(cmd)
	must.OK(t, err)
	t.Cleanup(next.Kill)
	manager.await("^STATUS=waiting for the end of the server before this one")
	must.OK(t, s.Server.Stop())
	manager.await("^READY=1")
	must.OK(t, next.Stop())
}

// passedOn starts a server as systemd does, with sockets that are open. A shell gives
// it the variables, which hold its process ID.
func passedOn(t *testing.T, s *site.Site, files ...*os.File) *site.Receiver {
	t.Helper()
	cmd := exec.Command("sh", "-c", `export LISTEN_PID=$$; exec ostree-upload "$@"`, "sh", "receive", "--repo", "prod", "--init", "--address", "none.invalid:1")
	cmd.Dir, cmd.ExtraFiles = s.Dir, files
	cmd.Env = append(os.Environ(), fmt.Sprint("LISTEN_FDS=", len(files)))
	r, err := site.Launch(cmd)
	must.OK(t, err)
	t.Cleanup(r.Kill)
	return r
}

// socket is an open socket, as systemd has it.
func socket(t *testing.T) (f *os.File, address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(t, err)
	f, err = l.(*net.TCPListener).File()
	must.OK(t, err)
	must.OK(t, l.Close())
	t.Cleanup(func() { f.Close() })
	return f, l.Addr().String()
}

// The sockets that systemd passes on are listened at, all of them and nothing else,
// and the log says which. While the server restarts, whoever connects waits: systemd
// has the sockets open.
func TestSocketsOfSystemd(t *testing.T) {
	t.Parallel()
	s := site.At(t, t.TempDir())
	s.MakeToken()
	t.Cleanup(s.End)
	one, first := socket(t)
	two, other := socket(t)
	s.Server = passedOn(t, s, one, two)
	must.OK(t, s.Server.Await())
	if s.Server.Address != first+","+other || !strings.Contains(s.Server.Log.String(), " sockets=systemd ") {
		t.Errorf("it does not say at what it listens:\n%s", &s.Server.Log)
	}
	for _, address := range []string{first, other} {
		s.URL = "http://" + address
		b := site.Small(t, "os/"+strings.ReplaceAll(address, ":", "/port"), address)
		s.Push(b)
	}
	must.OK(t, s.Server.Stop())
	answer := make(chan error, 1)
	go func() {
		res, err := http.Get("http://" + first + "/healthz")
		if err == nil {
			err = res.Body.Close()
		}
		answer <- err
	}()
	s.Server = passedOn(t, s, one, two)
	must.OK(t, s.Server.Await())
	if err := <-answer; err != nil {
		t.Errorf("a request during the restart: %v", err)
	}
}

// A socket that nobody can listen at is refused with what the unit should say.
func TestSocketOfAnotherKind(t *testing.T) {
	t.Parallel()
	s := site.At(t, t.TempDir())
	s.MakeToken()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	must.OK(t, err)
	defer packets.Close()
	udp, err := packets.(*net.UDPConn).File()
	must.OK(t, err)
	defer udp.Close()
	r := passedOn(t, s, udp)
	<-r.Ended
	if log := r.Log.String(); !strings.Contains(log, "hint: the socket unit has to have ListenStream= and no Accept=yes") {
		t.Errorf("it says\n%s", log)
	}
}

// systemd's own tool for trying socket activation starts the server at the first
// connection, which is answered.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Skip("needs systemd-socket-activate, of systemd")
	}
	s := site.At(t, t.TempDir())
	s.MakeToken()
	address := site.FreeAddress(t)
	program, err := exec.LookPath("ostree-upload")
	must.OK(t, err)
	cmd := exec.Command(tool, "--listen="+address, program, "receive", "--repo", "prod", "--init")
	cmd.Dir = s.Dir
	s.Server, err = site.Launch(cmd)
	must.OK(t, err)
	t.Cleanup(s.End)
	must.Wait(t, "systemd listens", func() bool {
		return strings.Contains(s.Server.Log.String(), "Listening on "+address)
	})
	s.URL = "http://" + address
	b := site.Small(t, "os/x86_64/stable", "activated")
	s.Push(b)
	must.OK(t, s.Server.Await())
	if s.Server.Address != address {
		t.Errorf("it listens at %s", s.Server.Address)
	}
	site.Published(t, b, s.Prod)
}
