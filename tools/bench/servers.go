// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/test/process"
)

// A daemon is a server that runs in the foreground.
type daemon struct {
	address string // host:port
	cmd     *exec.Cmd
	ended   chan error
	log     string
}

// start starts a server and waits until it accepts connections.
func (b *bench) start(ctx context.Context, address, log string, cmd *exec.Cmd) (*daemon, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &daemon{address: address, cmd: cmd, ended: make(chan error, 1), log: log}
	go func() { d.ended <- cmd.Wait() }()
	if err := d.ready(ctx); err != nil {
		d.stop()
		text, _ := os.ReadFile(log)
		return nil, fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, text)
	}
	return d, nil
}

// ready returns once the server accepts connections.
func (d *daemon) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("it does not listen"))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("tcp", d.address); err == nil {
			return conn.Close()
		}
		select {
		case err := <-d.ended:
			d.ended <- err
			return fmt.Errorf("it ended: %w", err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (d *daemon) stop() {
	process.Stop(d.cmd.Process, d.ended, 20*time.Second)
}

// freePort is an address of the loopback interface that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// An sshd is a server of our own: own port, own keys, own configuration.
type sshd struct {
	*daemon
	options string // of ssh, as one command line
}

func (b *bench) startSSH(ctx context.Context) (*sshd, error) {
	host, key := b.path("ssh_host_key"), b.path("ssh_key")
	for _, path := range []string{host, key} {
		if _, err := b.output(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path); err != nil {
			return nil, err
		}
	}
	address, err := freePort()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	// Where it has to be for sshd started by root; gone after a reboot.
	if os.Getuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return nil, err
		}
	}
	config := fmt.Sprintf("ListenAddress 127.0.0.1\nPort %s\nHostKey %s\nAuthorizedKeysFile %s.pub\nPidFile none\n"+
		"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n", port, host, key)
	if err := os.WriteFile(b.path("sshd_config"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	binary, err := exec.LookPath("sshd")
	if err != nil {
		binary = "/usr/sbin/sshd" // sshd insists on a whole path
	}
	d, err := b.start(ctx, address, b.path("sshd.log"), b.command(context.WithoutCancel(ctx), binary, "-D", "-e", "-f", b.path("sshd_config")))
	if err != nil {
		return nil, err
	}
	return &sshd{d, "ssh -i " + key + " -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes"}, nil
}

// command is ssh's command line, for a server at another port if need be.
func (s *sshd) command(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return s.options + " -p " + port
}

// nginx serves a repository, and passes pushes on.
type nginx struct{ *daemon }

const nginxConfig = `%s
pid %[2]s/nginx.pid;
error_log %[2]s/nginx.log;
worker_processes auto;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path %[2]s/nginx-body;
  proxy_temp_path %[2]s/nginx-proxy;
  fastcgi_temp_path %[2]s/nginx-1;
  uwsgi_temp_path %[2]s/nginx-2;
  scgi_temp_path %[2]s/nginx-3;
  sendfile on;
  server {
    listen %[3]s;
    %[4]s
  }
}
`

// startNginx starts nginx with what its server block shall say.
func (b *bench) startNginx(ctx context.Context, server string) (*nginx, error) {
	address, err := freePort()
	if err != nil {
		return nil, err
	}
	as := ""
	if me, err := user.Current(); err == nil && os.Getuid() == 0 {
		as = "user " + me.Username + ";"
	}
	folder, err := os.MkdirTemp(b.folder, "nginx-")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(folder, "nginx.conf")
	text := fmt.Sprintf(nginxConfig, as, folder, address, strings.TrimSpace(server))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	binary, err := exec.LookPath("nginx")
	if err != nil {
		binary = "/usr/sbin/nginx"
	}
	cmd := b.command(context.WithoutCancel(ctx), binary, "-e", "stderr", "-p", folder, "-c", config, "-g", "daemon off;")
	d, err := b.start(ctx, address, filepath.Join(folder, "log"), cmd)
	if err != nil {
		return nil, err
	}
	return &nginx{d}, nil
}
