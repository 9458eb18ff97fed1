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
	"testing"
	"time"

	"github.com/lirios/ostree-upload/test/must"
)

// nginxConfig takes who nginx runs as, its address, and what it does with requests.
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
  server {
    listen %s;
    %s
  }
}
`

// Nginx puts nginx between the server and its clients, with a configuration in which
// SERVER is the server's address.
func (s *Site) Nginx(configuration string) {
	s.T.Helper()
	address := FreeAddress(s.T)
	as := ""
	if os.Getuid() == 0 {
		as = "user root;" // reads its own temporary files
	}
	text := fmt.Sprintf(nginxConfig, as, address, strings.ReplaceAll(configuration, "SERVER", s.Server.Address))
	file := filepath.Join(s.T.TempDir(), "nginx.conf")
	must.OK(s.T, os.WriteFile(file, []byte(text), 0o600))
	startProxy(s.T, address, "nginx", "-e", "stderr", "-p", filepath.Dir(file), "-c", file)
	s.URL = "http://" + address
}

// haproxyConfig takes its address, and what it does with requests.
const haproxyConfig = `
defaults
  mode http
  timeout connect 1s
  timeout client 1m
  timeout server 1s
frontend all
  bind %s
%s
`

// HAProxy puts HAProxy between the server and its clients, as Nginx does.
func (s *Site) HAProxy(configuration string) {
	s.T.Helper()
	address := FreeAddress(s.T)
	text := fmt.Sprintf(haproxyConfig, address, strings.ReplaceAll(configuration, "SERVER", s.Server.Address))
	file := filepath.Join(s.T.TempDir(), "haproxy.cfg")
	must.OK(s.T, os.WriteFile(file, []byte(text), 0o600))
	startProxy(s.T, address, "haproxy", "-db", "-f", file)
	s.URL = "http://" + address
}

// FreeAddress is one of this host at which nobody listens.
func FreeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(t, err)
	must.OK(t, l.Close())
	return l.Addr().String()
}

// startProxy runs a program until the test ends, and returns once it listens.
func startProxy(t *testing.T, address, program string, args ...string) {
	t.Helper()
	binary, err := exec.LookPath(program)
	if errors.Is(err, exec.ErrNotFound) {
		binary, err = exec.LookPath("/usr/sbin/" + program)
	}
	if err != nil {
		t.Skip(program + " is not installed")
	}
	cmd := exec.Command(binary, args...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	must.OK(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt) // its workers end with it
		<-ended
	})
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s: %v\n%s", program, err, &complaints)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
