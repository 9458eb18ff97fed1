// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/test/process"
)

// The normal push of the part hostile: so many files, of that many bytes at most,
// of which about half is left when they are compressed.
const (
	normalFiles = 4000
	normalBytes = 48 << 10
)

// normalSource commits a tree of files that are the same in each run.
func (b *bench) normalSource(ctx context.Context, folder string) (*source, error) {
	tree := b.path("normal-files")
	random := rand.New(rand.NewPCG(1, 2))
	for i := range normalFiles {
		text := make([]byte, 1+random.IntN(normalBytes))
		for j := range text {
			text[j] = "0123456789abcdef"[random.IntN(16)]
		}
		path := filepath.Join(tree, fmt.Sprint(i/100), fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return nil, err
		}
	}
	return b.folderSource(ctx, folder, "normal", tree)
}

// hostile is a push alone, and the same beside a token that does its worst. The
// two take their turns in pairs, each with a server of its own.
func (b *bench) hostile(context.Context) ([]contender, error) {
	var latest float64
	alone := b.pushing(b.normal, func(_ context.Context, _ *bench, server string) (string, func(*trial) error, error) {
		return server, func(t *trial) error { latest = t.Seconds; return nil }, nil
	}, "auto")
	alone.name += ", alone"
	attacked := b.pushing(b.normal, func(ctx context.Context, b *bench, server string) (string, func(*trial) error, error) {
		a, err := b.startAttack(ctx, server)
		if err != nil {
			return "", nil, err
		}
		return server, func(t *trial) (err error) {
			t.Slowdown = t.Seconds / latest
			t.Attack, err = a.stop()
			return err
		}, nil
	}, "auto")
	attacked.name += ", attacked"
	return []contender{alone, attacked}, nil
}

// A running attack is a process of its own, so that its work and its memory are not
// those of the bench.
type runningAttack struct {
	cmd        *exec.Cmd
	out        *bufio.Reader
	complaints strings.Builder
}

// startAttack starts an attack and returns once it goes at full strength.
func (b *bench) startAttack(ctx context.Context, server string) (*runningAttack, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	a := &runningAttack{cmd: b.command(ctx, self, attackCommand, server, b.attack)}
	a.cmd.Stderr = &a.complaints
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	a.out = bufio.NewReader(out)
	if _, err := a.out.ReadString('\n'); err != nil {
		_, err = a.stop()
		return nil, fmt.Errorf("the attack did not start: %w", err)
	}
	return a, nil
}

// stop ends the attack and returns how often it did what.
func (a *runningAttack) stop() (map[string]int64, error) {
	var did map[string]int64
	ended := make(chan error, 1)
	go func() {
		unread := json.NewDecoder(a.out).Decode(&did)
		err := a.cmd.Wait()
		if err == nil {
			err = unread
		}
		ended <- err
	}()
	_ = a.cmd.Process.Signal(os.Interrupt) // fails where it has ended
	select {
	case err := <-ended:
		if err != nil {
			return nil, fmt.Errorf("attack: %w\n%s", err, &a.complaints)
		}
		return did, nil
	case <-time.After(30 * time.Second):
		process.Stop(a.cmd.Process, ended, 0)
		return nil, fmt.Errorf("the attack did not end when it was told to\n%s", &a.complaints)
	}
}
