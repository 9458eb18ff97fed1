// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// nginxConfig takes who nginx runs as, and what it serves.
const nginxConfig = `%s
daemon off;
pid nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  %s
}
`

// Nginx puts nginx between the server and its clients, with a configuration in which
// SERVER is the server's address.
func (s *Site) Nginx(configuration string) {
	s.T.Helper()
	configuration = strings.ReplaceAll(configuration, "SERVER", s.Server.Address)
	s.URL = "http://" + StartNginx(s.T, "server {\n    listen LISTEN;\n"+configuration+"\n  }")
}

// StartNginx starts nginx with what its http block shall say, in which LISTEN is the
// address that it returns.
func StartNginx(t *testing.T, configuration string) (address string) {
	t.Helper()
	as := ""
	if os.Getuid() == 0 {
		as = "user root;" // reads its own temporary files
	}
	l := listen(t)
	address = l.Addr().String()
	text := fmt.Sprintf(nginxConfig, as, strings.ReplaceAll(configuration, "LISTEN", address))
	file := filepath.Join(t.TempDir(), "nginx.conf")
	must.OK(t, os.WriteFile(file, []byte(text), 0o600))
	// So does a newer nginx take over the sockets of an older one.
	startProxy(t, l, []string{"NGINX=3;"}, "nginx", "-e", "stderr", "-p", filepath.Dir(file), "-c", file)
	return address
}

// haproxyConfig takes what it does with requests.
const haproxyConfig = `
defaults
  mode http
  timeout connect 1s
  timeout client 1m
  timeout server 1s
frontend all
  bind fd@3
%s
`

// HAProxy puts HAProxy between the server and its clients, as Nginx does.
func (s *Site) HAProxy(configuration string) {
	s.T.Helper()
	s.URL = "http://" + StartHAProxy(s.T, fmt.Sprintf(haproxyConfig, strings.ReplaceAll(configuration, "SERVER", s.Server.Address)))
}

// StartHAProxy starts HAProxy with a configuration that binds fd@3, and returns its
// address.
func StartHAProxy(t *testing.T, configuration string) (address string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	must.OK(t, os.WriteFile(file, []byte(configuration), 0o600))
	l := listen(t)
	startProxy(t, l, nil, "haproxy", "-db", "-f", file)
	return l.Addr().String()
}

// hosts counts what FreeAddress has given away.
var hosts atomic.Uint32

// FreeAddress is an address of this machine for a program that is to listen there later,
// or for none. The loopback host is of this call alone: at any other, the kernel could
// give the port to somebody else meanwhile.
func FreeAddress(t *testing.T) string {
	t.Helper()
	pid := os.Getpid()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", pid>>8&0xff, pid&0xff, 1+hosts.Add(1)%254))
	must.OK(t, err)
	must.OK(t, l.Close())
	return l.Addr().String()
}

// listen listens at a port that the kernel chooses, for a program that inherits it.
func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(t, err)
	return l.(*net.TCPListener)
}

// startProxy runs a program until the test ends, which has a listener as its descriptor
// 3. Who connects before it is ready waits in the kernel.
func startProxy(t *testing.T, l *net.TCPListener, env []string, program string, args ...string) {
	t.Helper()
	defer l.Close() // the program's alone, once it runs
	binary, err := exec.LookPath(program)
	if errors.Is(err, exec.ErrNotFound) {
		binary, err = exec.LookPath("/usr/sbin/" + program)
	}
	if err != nil {
		t.Skip(program + " is not installed")
	}
	socket, err := l.File()
	must.OK(t, err)
	defer socket.Close()
	cmd := exec.Command(binary, args...)
	var complaints strings.Builder
	cmd.Stderr, cmd.ExtraFiles = &complaints, []*os.File{socket}
	cmd.Env = append(os.Environ(), env...)
	must.OK(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		select {
		case err := <-ended:
			t.Errorf("%s ended: %v\n%s", program, err, &complaints)
		default:
			cmd.Process.Signal(os.Interrupt) // its workers end with it
			<-ended
		}
	})
}
