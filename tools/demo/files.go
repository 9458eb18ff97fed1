// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// How many real files the demo takes at least, and how many bytes. The bytes
// are before compression, of which the repository keeps a third to a half.
const (
	wantFiles = 5_000
	wantBytes = 160 << 20
	// Once there are bytes enough, only small files are taken until there are
	// files enough, too.
	smallFile = 16 << 10
	// Not more than this from one file: many files are the point.
	largeFile = 24 << 20
)

// A collector copies real files of this machine into one folder. Copies, as
// what is installed here must not change while it is committed.
type collector struct {
	into  string
	files int
	bytes int64
	from  []string // folders that gave some
}

// makeBuildRepo commits real files into a new archive repository.
func (d *demo) makeBuildRepo(ctx context.Context) (string, error) {
	c := &collector{into: d.path("files")}
	places := []string{"/usr/share", "/usr/lib", "/usr/bin", "/usr/include"}
	if goroot, err := d.output(ctx, "go", "env", "GOROOT"); err == nil {
		places = append(places, goroot)
	}
	for _, place := range places {
		if err := c.collect(ctx, place); err != nil {
			return "", err
		}
	}
	if !c.enough() {
		return "", fmt.Errorf("only %d files with %s on this machine", c.files, megabytes(c.bytes))
	}
	if err := d.makeRepo(ctx, "build"); err != nil {
		return "", err
	}
	if _, err := d.ostree(ctx, "commit", "--repo=build", "--branch="+ref, "--subject=real files",
		"--owner-uid=0", "--owner-gid=0", "--no-xattrs", "--tree=dir=files"); err != nil {
		return "", err
	}
	objects, size, err := measure(d.path("build/objects"))
	return fmt.Sprintf("%d files of %s, %s; as %d objects they are %s",
		c.files, strings.Join(c.from, ", "), megabytes(c.bytes), objects, megabytes(size)), err
}

func (c *collector) enough() bool { return c.files >= wantFiles && c.bytes >= wantBytes }

// collect takes files and symbolic links below place until there are enough.
// What cannot be read is passed over.
func (c *collector) collect(ctx context.Context, place string) error {
	before := c.files
	err := filepath.WalkDir(place, func(path string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case c.enough():
			return fs.SkipAll
		case err != nil:
			return nil
		}
		return c.take(path, e)
	})
	if c.files > before {
		c.from = append(c.from, place)
	}
	return err
}

func (c *collector) take(path string, e fs.DirEntry) error {
	target := filepath.Join(c.into, path)
	switch e.Type() {
	case fs.ModeDir:
		return os.MkdirAll(target, 0o755)
	case fs.ModeSymlink:
		to, err := os.Readlink(path)
		if err != nil {
			return nil
		}
		return os.Symlink(to, target)
	case 0:
		return c.takeFile(path, target, e)
	}
	return nil
}

func (c *collector) takeFile(path, target string, e fs.DirEntry) error {
	info, err := e.Info()
	if err != nil || info.Size() > largeFile || c.bytes >= wantBytes && info.Size() > smallFile {
		return nil
	}
	from, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer from.Close()
	to, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm()|0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(to, from)
	c.files++
	c.bytes += n
	return errors.Join(err, to.Close())
}

// measure counts the files below a folder, and their bytes.
func measure(folder string) (files int, size int64, err error) {
	err = filepath.WalkDir(folder, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		files++
		size += info.Size()
		return nil
	})
	return files, size, err
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
