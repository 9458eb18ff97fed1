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
	"slices"
	"strings"
)

// A source is a build repository.
type source struct {
	repo    string
	ref     string
	before  string // the commit that targets have already, or ""
	commit  string
	payload int64 // bytes of the objects that commit adds to before
	warm    bool  // it was read
}

// earlier is a repository with the commit before and no more. It shares files
// with the source, so that their times are equal and rsync takes them for equal.
func (s *source) earlier() string { return s.repo + "-earlier" }

// folderSource commits a folder of this machine.
func (b *bench) folderSource(ctx context.Context, folder, name, tree string) (*source, error) {
	s := &source{repo: filepath.Join(folder, name), ref: "bench/" + name}
	if done, err := b.again(ctx, s, 1); done || err != nil {
		return s, err
	}
	if err := b.initRepo(ctx, s.repo); err != nil {
		return nil, err
	}
	if err := b.commit(ctx, s, tree); err != nil {
		return nil, err
	}
	return s, b.weigh(s)
}

// The update: packages of which Debian usually has two versions, one of the
// release and one of the security archive. Large and small files, code and text.
var packages = []string{
	"openjdk-17-jre-headless", "libreoffice-core", "libwebkit2gtk-4.1-0", "postgresql-15", "samba-libs",
	"perl-modules-5.36", "mariadb-server", "systemd", "libc6", "libc6-dev", "git", "clamav", "python3.11-minimal", "linux-libc-dev",
}

// updateSource makes two commits of packages, at their older and newer versions.
func (b *bench) updateSource(ctx context.Context, folder string) (*source, error) {
	s := &source{repo: filepath.Join(folder, "update"), ref: "bench/update"}
	if done, err := b.again(ctx, s, 2); done || err != nil {
		return s, err
	}
	if err := b.initRepo(ctx, s.repo); err != nil {
		return nil, err
	}
	older, newer, err := b.unpackBoth(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.commit(ctx, s, older); err != nil {
		return nil, err
	}
	if err := b.initRepo(ctx, s.earlier()); err != nil {
		return nil, err
	}
	if _, err := b.output(ctx, "ostree", "pull-local", "--repo="+s.earlier(), s.repo, s.ref); err != nil {
		return nil, err
	}
	s.before = s.commit
	if err := b.commit(ctx, s, newer); err != nil {
		return nil, err
	}
	return s, b.weigh(s)
}

// unpackBoth unpacks each package at two versions, into two folders.
func (b *bench) unpackBoth(ctx context.Context) (older, newer string, err error) {
	older, newer = b.path("older"), b.path("newer")
	found := 0
	for _, name := range packages {
		list, err := b.output(ctx, "apt-cache", "madison", name)
		if err != nil {
			return "", "", err
		}
		versions := versionsOf(list)
		if len(versions) < 2 {
			continue
		}
		found++
		for i, folder := range []string{newer, older} { // madison has the newest first
			if err := b.unpack(ctx, name+"="+versions[i], folder); err != nil {
				return "", "", err
			}
		}
	}
	if found == 0 {
		return "", "", errors.New("apt knows no package at two versions: are the archives of a Debian release and of its security updates in its sources?")
	}
	return older, newer, nil
}

// versionsOf lists the versions that apt-cache madison prints.
func versionsOf(list string) []string {
	var versions []string
	for line := range strings.Lines(list) {
		parts := strings.Split(line, "|")
		if len(parts) == 3 && strings.Contains(parts[2], "Packages") {
			versions = append(versions, strings.TrimSpace(parts[1]))
		}
	}
	return slices.Compact(versions)
}

func (b *bench) unpack(ctx context.Context, version, folder string) error {
	download, err := os.MkdirTemp(b.folder, "deb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(download)
	cmd := b.command(ctx, "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", version)
	cmd.Dir = download
	if _, err := output(cmd); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(download, "*.deb"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("download of %s: %d files, %v", version, len(files), err)
	}
	_, err = b.output(ctx, "dpkg-deb", "-x", files[0], folder)
	return err
}

// initRepo makes a build repository; it need not survive a power cut.
func (b *bench) initRepo(ctx context.Context, repo string) error {
	if err := os.MkdirAll(filepath.Dir(repo), 0o755); err != nil {
		return err
	}
	if _, err := b.output(ctx, "ostree", "init", "--repo="+repo, "--mode=archive"); err != nil {
		return err
	}
	_, err := b.output(ctx, "ostree", "config", "--repo="+repo, "set", "core.fsync", "false")
	return err
}

func (b *bench) commit(ctx context.Context, s *source, tree string) (err error) {
	s.commit, err = b.output(ctx, "ostree", "commit", "--repo="+s.repo, "--branch="+s.ref, "--no-xattrs",
		"--owner-uid=0", "--owner-gid=0", "--tree=dir="+tree)
	return err
}

// again takes a repository that an earlier run made and kept, of so many commits.
func (b *bench) again(ctx context.Context, s *source, commits int) (bool, error) {
	commit, err := b.output(ctx, "ostree", "rev-parse", "--repo="+s.repo, s.ref)
	if err != nil {
		return false, errors.Join(os.RemoveAll(s.repo), os.RemoveAll(s.earlier()))
	}
	s.commit = commit
	if commits == 2 {
		if s.before, err = b.output(ctx, "ostree", "rev-parse", "--repo="+s.earlier(), s.ref); err != nil {
			return false, err
		}
	}
	return true, b.weigh(s)
}

// weigh measures the payload: all objects, less those of the commit before.
func (b *bench) weigh(s *source) error {
	all, err := objectSizes(s.repo)
	if err != nil {
		return err
	}
	if s.before != "" {
		known, err := objectSizes(s.earlier())
		if err != nil {
			return err
		}
		for name := range known {
			delete(all, name)
		}
	}
	s.payload = 0
	for _, size := range all {
		s.payload += size
	}
	fmt.Fprintf(os.Stderr, "%s: %d objects to copy, %.1f MB\n", s.ref, len(all), float64(s.payload)/1e6)
	return nil
}

// objectSizes is the size of each object of a repository, by its path.
func objectSizes(repo string) (map[string]int64, error) {
	sizes := map[string]int64{}
	root := filepath.Join(repo, "objects")
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		sizes[strings.TrimPrefix(path, root)] = info.Size()
		return nil
	})
	return sizes, err
}

// readAll reads every file below a folder.
func readAll(folder string) error {
	return filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f)
		return errors.Join(err, f.Close())
	})
}
