// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

// Bench measures pushes beside other ways to copy a repository, with real files
// of this machine, the real server and the real peers; `make bench` runs it and
// docs/performance.md says how to read it.
//
// Within a part everyone takes a turn, round after round, each into a file
// system of its own that was just made (as root; else into a new folder). Peers
// do what their manuals say by default; nothing is tuned for or against them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	// Children are told to die with the thread that started them, see command.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	work := run
	if len(os.Args) == 4 && os.Args[1] == attackCommand {
		work = func(ctx context.Context) error { return runAttack(ctx, os.Args[2], os.Args[3], os.Stdout) }
	}
	if err := work(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A bench is what its parts share.
type bench struct {
	binary string // ostree-upload
	folder string // everything but targets is below it
	rounds int
	attack string // kinds of loops of the part hostile

	share  *source // a commit of /usr/share
	large  *source // a commit of /usr/lib, which is larger
	update *source // Debian packages at two versions
	normal *source // a tree of some thousand files
	ssh    *sshd
	web    *nginx
}

// A part is some contenders and what they copy.
type part struct {
	name   string
	about  string
	rounds int // 0: as asked for
	who    func(context.Context) ([]contender, error)
}

func (b *bench) parts() []part {
	return []part{
		{"loopback", "a commit of /usr/share into an empty target", 0, b.loopback},
		{"bucket", "the same into an object store, versitygw", 0, b.bucket},
		{"update", "an update of Debian packages, loopback", 0, b.updating},
		{"static-delta", "what libostree makes of the same update: a file for clients, later", 1, b.staticDelta},
		{"lan", "the same update through 1 Gbit/s", 0, b.lan},
		{"slow", "the same update through 20 Mbit/s with 100 ms round trip", 1, b.slow},
		{"first", "the commit of /usr/share through that link", 1, b.first},
		{"cuts", "the same update, each connection reset after 5 MB", 1, b.cuts},
		{"outages", "the same, the link down for 3 s every 20 s", 1, b.outages},
		{"kills", "the same through 20 Mbit/s, the client killed 20 times and run again", 1, b.kills},
		{"proxy", "the update through nginx that takes requests of 1 MB and collects them", 1, b.proxied},
		{"larger", "a commit of /usr/lib, which is larger, for the memory", 1, b.larger},
		{"hostile", "a tree of 4,000 files, alone and beside another token that does its worst", 0, b.hostile},
		{"million", "a commit of 1,000,000 small files", 1, b.million},
	}
}

func run(ctx context.Context) (err error) {
	names := flag.String("parts", "", "only these parts, separated by commas")
	rounds := flag.Int("rounds", 5, "how often each contender takes its turn")
	out := flag.String("json", "bin/bench.json", "file for all that was measured")
	attack := flag.String("attack", strings.Join(attackKinds, ","), "what the hostile token does all the time")
	keep := flag.String("sources", "", "folder for the repositories that are pushed, to use again")
	flag.Parse()
	if flag.NArg() != 1 {
		return errors.New("usage: bench [flags] path/to/ostree-upload")
	}
	binary, err := filepath.Abs(flag.Arg(0))
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "ostree-upload-bench-")
	if err != nil {
		return err
	}
	b := &bench{binary: binary, folder: folder, rounds: *rounds, attack: *attack}
	defer func() { err = errors.Join(err, b.cleanUp()) }()
	if *keep == "" {
		*keep = b.path("sources")
	}
	r := &report{Machine: machine(), Started: time.Now().UTC()}
	for _, p := range b.parts() {
		if *names != "" && !slices.Contains(strings.Split(*names, ","), p.name) {
			continue
		}
		if err := b.prepare(ctx, *keep, p.name); err != nil {
			return fmt.Errorf("prepare part %s: %w", p.name, err)
		}
		if err := b.measure(ctx, p, r); err != nil {
			return fmt.Errorf("part %s: %w", p.name, err)
		}
		if err := r.write(*out); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes what a part needs and no part before it has made.
func (b *bench) prepare(ctx context.Context, sources, part string) (err error) {
	if b.ssh == nil {
		if b.ssh, err = b.startSSH(ctx); err != nil {
			return err
		}
	}
	switch part {
	case "loopback", "first", "bucket":
		b.share, err = b.folderSource(ctx, sources, "share", "/usr/share")
	case "larger":
		b.large, err = b.folderSource(ctx, sources, "larger", "/usr/lib")
	case "hostile":
		b.normal, err = b.normalSource(ctx, sources)
	case "million":
	default:
		if b.update == nil {
			b.update, err = b.updateSource(ctx, sources)
		}
	}
	return errors.Join(err, b.warm())
}

// warm reads the sources once: nobody is to pay for the cold cache of a disk.
func (b *bench) warm() error {
	for _, s := range []*source{b.share, b.large, b.update, b.normal} {
		if s == nil || s.warm {
			continue
		}
		if err := readAll(s.repo); err != nil {
			return err
		}
		s.warm = true
	}
	return nil
}

func (b *bench) path(name string) string { return filepath.Join(b.folder, name) }

func (b *bench) cleanUp() error {
	if b.ssh != nil {
		b.ssh.stop()
	}
	if b.web != nil {
		b.web.stop()
	}
	return os.RemoveAll(b.folder)
}

// command is a child that is killed when ctx ends, or the bench itself.
func (b *bench) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = b.folder
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// output runs a command and returns its stdout. What it had to say on stderr is
// part of the error.
func (b *bench) output(ctx context.Context, name string, args ...string) (string, error) {
	return output(b.command(ctx, name, args...))
}

func output(cmd *exec.Cmd) (string, error) {
	out, _, err := watched(cmd)
	return out, err
}
