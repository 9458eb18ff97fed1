// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/test/process"
)

// loopback is everyone, on the commit of /usr/share.
func (b *bench) loopback(ctx context.Context) ([]contender, error) {
	return b.everyone(ctx, b.share)
}

// larger is a push of more than loopback's.
func (b *bench) larger(context.Context) ([]contender, error) {
	return []contender{b.pushing(b.large, straight, "auto")}, nil
}

// updating is everyone who can leave out what the target has.
func (b *bench) updating(ctx context.Context) ([]contender, error) {
	return b.everyone(ctx, b.update)
}

func (b *bench) everyone(ctx context.Context, s *source) ([]contender, error) {
	if err := b.serve(ctx, s); err != nil {
		return nil, err
	}
	all := []contender{
		b.pushing(s, straight, "auto"),
		b.pushing(s, straight, "archive"),
		b.rsync(s, b.ssh.address),
		b.pull(s, b.web.address),
		b.pullLocal("ostree pull-local", s),
		b.pullLocal("ostree pull-local --untrusted", s, "--untrusted"),
	}
	if s.before == "" {
		all = append(all, b.cp(s))
	}
	return all, nil
}

// serve has nginx serve a source.
func (b *bench) serve(ctx context.Context, s *source) (err error) {
	if b.web != nil {
		b.web.stop()
	}
	b.web, err = b.startNginx(ctx, "root "+s.repo+";")
	return err
}

// target makes the repository that a turn copies into, with what it has already.
func (b *bench) target(ctx context.Context, s *source, folder string) (string, error) {
	repo := filepath.Join(folder, "prod")
	if _, err := b.output(ctx, "ostree", "init", "--repo="+repo, "--mode=archive"); err != nil {
		return "", err
	}
	if s.before != "" {
		if _, err := b.output(ctx, "cp", "-a", s.earlier()+"/.", repo); err != nil {
			return "", err
		}
		// Its configuration is that of a build repository.
		if _, err := b.output(ctx, "ostree", "config", "--repo="+repo, "set", "core.fsync", "true"); err != nil {
			return "", err
		}
	}
	return repo, nil
}

// peer is a contender that is one command into a prepared repository.
func (b *bench) peer(name string, s *source, command func(repo string) []string) contender {
	return contender{name, func(ctx context.Context, folder string) (*turn, error) {
		repo, err := b.target(ctx, s, folder)
		if err != nil {
			return nil, err
		}
		args := command(repo)
		run := func(ctx context.Context) error {
			_, err := b.output(ctx, args[0], args[1:]...)
			return err
		}
		return &turn{run: run, end: func(*trial) error { return b.complete(ctx, s, repo) }}, nil
	}}
}

// complete checks that a target has the commit's objects.
func (b *bench) complete(ctx context.Context, s *source, repo string) error {
	_, err := b.output(ctx, "ostree", "ls", "-R", "--repo="+repo, s.commit)
	return err
}

func (b *bench) rsync(s *source, address string) contender {
	return b.peer("rsync -a -e ssh", s, func(repo string) []string {
		return []string{"rsync", "-a", "-e", b.ssh.command(address), s.repo + "/", "127.0.0.1:" + repo + "/"}
	})
}

func (b *bench) cp(s *source) contender {
	return b.peer("cp -a", s, func(repo string) []string {
		return []string{"cp", "-a", s.repo + "/.", repo}
	})
}

func (b *bench) pullLocal(name string, s *source, flags ...string) contender {
	return b.peer(name, s, func(repo string) []string {
		return append(append([]string{"ostree", "pull-local", "--repo=" + repo}, flags...), s.repo, s.ref)
	})
}

// pull is a server that fetches over HTTP.
func (b *bench) pull(s *source, address string) contender {
	c := b.peer("ostree pull", s, func(repo string) []string {
		return []string{"ostree", "pull", "--mirror", "--repo=" + repo, "build", s.ref}
	})
	ready := c.ready
	c.ready = func(ctx context.Context, folder string) (*turn, error) {
		t, err := ready(ctx, folder)
		if err != nil {
			return nil, err
		}
		_, err = b.output(ctx, "ostree", "remote", "add", "--repo="+filepath.Join(folder, "prod"), "--no-gpg-verify", "build", "http://"+address)
		return t, err
	}
	return c
}

// A route leads from the client to the server at an address, which is a
// host:port; end ends it and notes what it saw.
type route func(ctx context.Context, b *bench, server string) (address string, end func(*trial) error, err error)

// straight is no detour.
func straight(_ context.Context, _ *bench, server string) (string, func(*trial) error, error) {
	return server, func(*trial) error { return nil }, nil
}

// encodings are all that a push can be asked for.
var encodings = []string{"auto", "archive", "zstd", "delta"}

// inEach is a push with each encoding, the client killed some times at random moments and
// the command run again.
func (b *bench) inEach(kills int, s *source, by route) (all []contender) {
	for _, encoding := range encodings {
		all = append(all, b.killing(kills, s, by, encoding))
	}
	return all
}

// pushing is ostree-upload, with a server of its own for each turn.
func (b *bench) pushing(s *source, by route, encoding string) contender {
	return b.killing(0, s, by, encoding)
}

// killing is the same, but the client is killed.
func (b *bench) killing(kills int, s *source, by route, encoding string) contender {
	return contender{"push --encoding " + encoding, func(ctx context.Context, folder string) (*turn, error) {
		repo, err := b.target(ctx, s, folder)
		if err != nil {
			return nil, err
		}
		server, token, err := b.receive(ctx, folder)
		if err != nil {
			return nil, err
		}
		address, ended, err := by(ctx, b, server.address)
		if err != nil {
			server.stop()
			return nil, err
		}
		push := func(ctx context.Context) *exec.Cmd {
			cmd := b.command(ctx, b.binary, "push", "--json", "--repo="+s.repo, "--address=http://"+address, "--branch="+s.ref, "--encoding="+encoding)
			cmd.Env = append(os.Environ(), "OSTREE_UPLOAD_TOKEN="+token)
			return cmd
		}
		var out string
		var memory int64
		run := func(ctx context.Context) (err error) {
			for range kills {
				if over, err := killed(ctx, push); over || err != nil {
					break // the last run tells
				}
			}
			out, memory, err = watched(push(ctx))
			return err
		}
		return &turn{run: run, end: func(t *trial) error {
			defer server.stop()
			if err := note(t, out, server); err != nil {
				return err
			}
			t.Client = memory
			t.Payload = s.payload
			if err := ended(t); err != nil {
				return err
			}
			return b.complete(ctx, s, repo)
		}}, nil
	}}
}

// killed runs a command for at most lifetime, and tells whether it ended by itself.
func killed(ctx context.Context, make func(context.Context) *exec.Cmd) (over bool, err error) {
	const lifetime = 8 * time.Second
	ctx, cancel := context.WithTimeout(ctx, time.Duration(rand.Int64N(int64(lifetime))))
	defer cancel()
	_, err = output(make(ctx))
	return ctx.Err() == nil, err
}

// receive starts a server of the repository in folder.
func (b *bench) receive(ctx context.Context, folder string) (*daemon, string, error) {
	return b.receiveWith(ctx, folder, fmt.Sprintf("repo: %s\n", filepath.Join(folder, "prod")), nil)
}

// receiveWith starts a server with lines of configuration, in folder, and with more of an
// environment.
func (b *bench) receiveWith(ctx context.Context, folder, lines string, env []string, args ...string) (*daemon, string, error) {
	config := filepath.Join(folder, "ostree-upload.yaml")
	text := fmt.Sprintf("%stokens:\n  - {name: hostile, sha256: %x, refs: [hostile/**]}\n", lines, sha256.Sum256([]byte(hostileToken)))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	token, err := b.output(ctx, b.binary, "gentoken", "--config="+config, "--name=bench")
	if err != nil {
		return nil, "", err
	}
	address, err := freePort()
	if err != nil {
		return nil, "", err
	}
	cmd := b.command(context.WithoutCancel(ctx), b.binary, append([]string{"receive", "--config=" + config, "--address=" + address}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	d, err := b.start(ctx, address, filepath.Join(folder, "log"), cmd)
	return d, token, err
}

// watched is output, and the most memory that the process had, as seen ten times
// a second. What the kernel tells of it at its end is no use: that counts ours,
// too, which it had before it became another program.
func watched(cmd *exec.Cmd) (out string, memory int64, err error) {
	var stdout, complaints strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &complaints
	if err := cmd.Start(); err != nil {
		return "", 0, err
	}
	done, most := make(chan struct{}), make(chan int64)
	go func() {
		var seen int64
		for {
			select {
			case <-done:
				most <- seen
				return
			case <-time.After(100 * time.Millisecond):
			}
			if peak, err := process.PeakMemory(cmd.Process.Pid); err == nil { // else it has just ended
				seen = peak
			}
		}
	}()
	err = cmd.Wait()
	close(done)
	memory = <-most
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, &stdout, &complaints)
	}
	return strings.TrimSpace(stdout.String()), memory, nil
}

// note reads what a push says of itself, and the memory of its server.
func note(t *trial, out string, server *daemon) error {
	var r push.Result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return fmt.Errorf("push --json: %w\n%s", err, out)
	}
	t.Finalize, t.Retries = r.Seconds.Finalize, r.Retries
	var err error
	t.Server, err = process.PeakMemory(server.cmd.Process.Pid)
	return err
}
