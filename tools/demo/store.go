// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/store"
)

func (d *demo) stepsInStore() []step {
	return []step{
		{"build repository made", d.makeBuildRepo},
		{"object store started", d.startStore},
		{"servers started", d.startServers},
		{"server killed", d.killedServer},
		{"pushed again", d.pushElsewhere},
		{"killed server started", d.startVictim},
		{"ref pulled", d.pullFromStore},
		{"copy checked", d.check},
	}
}

// Where the repository is in the store.
const (
	bucketName = "repo"
	bucketPath = "os"
)

// startStore starts an object store with a bucket that everybody may read.
func (d *demo) startStore(ctx context.Context) (string, error) {
	program, err := store.Find()
	if err != nil {
		return "", err
	}
	if d.store, err = store.Start(ctx, program, d.path("store")); err != nil {
		return "", err
	}
	return "versitygw listens on " + d.store.URL + ", with an empty bucket", d.store.MakeBucket(ctx, bucketName)
}

// storeConfiguration is that of both servers.
const storeConfiguration = `# The demo's production host.
repo: s3://%s/%s
state: state-of-one
s3: {endpoint: %q, path-style: true}
limits: {min-free-space: 0}
`

// frontConfiguration is nginx's: requests of a token go to the same server while it lives.
const frontConfiguration = `%[1]s
daemon off;
pid %[2]s/nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path %[2]s/nginx-body;
  proxy_temp_path %[2]s/nginx-proxy;
  fastcgi_temp_path %[2]s/nginx-1;
  uwsgi_temp_path %[2]s/nginx-2;
  scgi_temp_path %[2]s/nginx-3;
  upstream receivers {
    hash $http_authorization consistent;
    server unix:%[2]s/one;
    server unix:%[2]s/two;
  }
  server {
    listen %[3]s;
    client_max_body_size 16m;
    proxy_request_buffering off;
    location / { proxy_pass http://receivers; }
  }
}
`

// startServers starts two servers that share nothing but the bucket, and nginx.
func (d *demo) startServers(ctx context.Context) (string, error) {
	text := fmt.Sprintf(storeConfiguration, bucketName, bucketPath, d.store.URL)
	if err := os.WriteFile(d.path("ostree-upload.yaml"), []byte(text), 0o600); err != nil {
		return "", err
	}
	token, err := d.makeToken(ctx)
	if err != nil {
		return "", err
	}
	for _, name := range []string{"one", "two"} {
		s, err := d.startReceiver(ctx, name, token)
		if err != nil {
			return "", err
		}
		d.receivers = append(d.receivers, s)
	}
	host, err := freePort()
	if err != nil {
		return "", err
	}
	as := ""
	if os.Getuid() == 0 {
		as = "user root;" // reads its own temporary files
	}
	if err := os.WriteFile(d.path("nginx.conf"), fmt.Appendf(nil, frontConfiguration, as, d.folder, host), 0o600); err != nil {
		return "", err
	}
	binary, err := exec.LookPath("nginx")
	if err != nil {
		binary = "/usr/sbin/nginx"
	}
	d.server, err = d.start(ctx, "http://"+host, token, d.command(context.WithoutCancel(ctx), binary, "-e", "stderr", "-p", d.folder, "-c", d.path("nginx.conf")))
	return "two of them, which share nothing but the bucket; nginx leads from http://" + host + " to one of them for each token", err
}

// startReceiver starts a server that listens at a socket of its name. What is in the
// bucket is made by whoever is first.
func (d *demo) startReceiver(ctx context.Context, name, token string) (*server, error) {
	cmd := d.command(context.WithoutCancel(ctx), d.binary, "receive", "--init", "--state=state-of-"+name, "--address=unix:"+d.path(name))
	cmd.Env = append(os.Environ(), store.Env()...)
	return d.start(ctx, "unix:"+d.path(name), token, cmd)
}

// killedServer starts a push, and kills the server that has a third of it.
func (d *demo) killedServer(ctx context.Context) (string, error) {
	p, err := d.startPush(ctx)
	if err != nil {
		return "", err
	}
	if err := d.killWhoHasIt(ctx); err != nil {
		return "", err
	}
	if err := <-p.ended; err == nil {
		return "", errors.New("the push ended well, it was not cut")
	}
	return fmt.Sprintf("kill -9 of the one that had %s of %s; the push ends: %s", megabytes(p.arrived), megabytes(p.size), fault(p.complaints.String())), nil
}

// fault is the line of a command that says what went wrong.
func fault(stderr string) string {
	for line := range strings.Lines(stderr) {
		if said, is := strings.CutPrefix(line, "ostree-upload: "); is {
			return strings.TrimSpace(said)
		}
	}
	return stderr
}

// killWhoHasIt kills the server that knows the session.
func (d *demo) killWhoHasIt(ctx context.Context) error {
	for _, s := range d.receivers {
		if _, err := s.client.Session(ctx, d.session, 0); err == nil {
			d.victim = s
		}
	}
	if d.victim == nil {
		return fmt.Errorf("no server knows session %s", d.session)
	}
	err := kill(d.victim.cmd, d.victim.ended)
	d.victim.ended <- err // for cleanUp
	return err
}

// pushElsewhere runs the same push again, which nginx leads to the other server.
func (d *demo) pushElsewhere(ctx context.Context) (string, error) {
	out, err := d.output(ctx, d.binary, d.pushing("--json")...)
	if err != nil {
		return "", err
	}
	var r push.Result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return "", err
	}
	if r.Session.ID == d.session || r.Session.State != wire.Published {
		return "", fmt.Errorf("session %s is %s", r.Session.ID, r.Session.State)
	}
	return fmt.Sprintf("the same command, to the other server: session %s sent %s, and %s is published", r.Session.ID, megabytes(r.BytesSent), ref), nil
}

// startVictim starts the killed server again, which still has what was staged there.
func (d *demo) startVictim(ctx context.Context) (string, error) {
	for i, name := range []string{"one", "two"} {
		if d.receivers[i] != d.victim {
			continue
		}
		d.victim.stop()
		s, err := d.startReceiver(ctx, name, d.server.token)
		if err != nil {
			return "", err
		}
		d.receivers[i] = s
		left, err := s.client.Session(ctx, d.session, 0)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("session %s is %s there, and expires", left.ID, left.State), nil
	}
	return "", errors.New("no server was killed")
}

// pullFromStore pulls from the bucket itself with the plain ostree command.
func (d *demo) pullFromStore(ctx context.Context) (string, error) {
	return d.pullFrom(ctx, d.store.URL+"/"+bucketName+"/"+bucketPath)
}
