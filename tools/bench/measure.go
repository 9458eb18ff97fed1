// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A contender is one way to copy.
type contender struct {
	name string
	// ready prepares a turn that copies into folder, an empty one on a file system
	// of its own; none of that is timed.
	ready func(ctx context.Context, folder string) (*turn, error)
}

// A turn is one copy. After go, which is timed, comes end if there is one: it
// checks, measures and cleans up, also when go failed.
type turn struct {
	run func(context.Context) error
	end func(*trial) error
}

// A trial is what came of one turn. Only pushes tell more than seconds.
type trial struct {
	Seconds  float64 `json:"seconds"`
	Sync     float64 `json:"sync"` // seconds until the disk has it, afterwards
	Finalize float64 `json:"finalize,omitempty"`
	Retries  int64   `json:"retries,omitempty"`
	Client   int64   `json:"client-memory,omitempty"` // bytes at most
	Server   int64   `json:"server-memory,omitempty"`
	// Of links only: bytes of the payload, and bytes that the link delivered to
	// the server, and what share of the link's rate the payload had.
	Payload   int64          `json:"payload,omitempty"`
	Delivered int64          `json:"delivered,omitempty"`
	Use       float64        `json:"use,omitempty"`
	Requests  map[string]int `json:"requests,omitempty"` // to an object store, by kind
	// Of the part hostile: the seconds as a multiple of those alone, and how often
	// the attack did what.
	Slowdown float64          `json:"slowdown,omitempty"`
	Attack   map[string]int64 `json:"attack,omitempty"`
}

// measure has each contender of a part take its turns.
func (b *bench) measure(ctx context.Context, p part, r *report) error {
	contenders, err := p.who(ctx)
	if err != nil {
		return err
	}
	rounds := p.rounds
	if rounds == 0 {
		rounds = b.rounds
	}
	result := r.add(p, contenders)
	for round := range rounds {
		for i := range contenders {
			if p.name != "hostile" { // whose contenders are pairs
				i = (i + round) % len(contenders) // who begins finds the disk's cache as it is
			}
			c := contenders[i]
			t, err := b.turn(ctx, p, c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			fmt.Fprintf(os.Stderr, "%s, round %d: %s %.2f s\n", p.name, round+1, c.name, t.Seconds)
			result.Contenders[i].Trials = append(result.Contenders[i].Trials, *t)
		}
	}
	result.print(os.Stdout)
	return nil
}

// turn has a contender take one turn on a fresh file system.
func (b *bench) turn(ctx context.Context, p part, c contender) (_ *trial, err error) {
	disk, err := b.newDisk(ctx, p.name == "million")
	if err != nil {
		return nil, err
	}
	defer func() {
		if failed := disk.drop(); err == nil {
			err = failed
		}
	}()
	t, err := c.ready(ctx, disk.folder)
	if err != nil {
		return nil, err
	}
	syscall.Sync() // what others left to write is not this turn's
	var result trial
	start := time.Now()
	err = t.run(ctx)
	result.Seconds = time.Since(start).Seconds()
	if err == nil {
		start = time.Now()
		err = disk.sync()
		result.Sync = time.Since(start).Seconds()
	}
	if t.end != nil {
		if failed := t.end(&result); err == nil {
			err = failed
		}
	}
	return &result, err
}

// A disk is where a turn's copy goes.
type disk struct {
	folder  string
	image   string // of its file system; "" if it has none of its own
	command func(name string, args ...string) error
}

// newDisk makes an ext4 file system in a file, if that can be mounted. A file
// system that much was deleted from lately creates files far slower.
func (b *bench) newDisk(ctx context.Context, large bool) (*disk, error) {
	folder, err := os.MkdirTemp(b.folder, "target-")
	if err != nil {
		return nil, err
	}
	d := &disk{folder: folder}
	d.command = func(name string, args ...string) error {
		_, err := b.output(context.WithoutCancel(ctx), name, args...)
		return err
	}
	if os.Getuid() != 0 {
		return d, nil
	}
	d.image = folder + ".img"
	size, inodes := int64(8<<30), "500000"
	if large {
		size, inodes = 30<<30, "4000000"
	}
	f, err := os.Create(d.image) // sparse
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return nil, err
	}
	if err := d.command("mkfs.ext4", "-q", "-N", inodes, "-E", "lazy_itable_init=0,lazy_journal_init=0", d.image); err != nil {
		return nil, err
	}
	if err := d.command("mount", "-o", "loop", d.image, folder); err != nil {
		return nil, err
	}
	return d, os.RemoveAll(filepath.Join(folder, "lost+found"))
}

// sync waits until the disk has all that was written.
func (d *disk) sync() error { return d.command("sync", "-f", d.folder) }

func (d *disk) drop() error {
	if d.image == "" {
		return nil // deleting now would slow the next turns
	}
	if err := d.command("umount", d.folder); err != nil {
		return err
	}
	return os.Remove(d.image)
}
