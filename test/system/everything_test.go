// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// capability is the security.capability of a file that may bind low ports
// (vfs_cap_data of version 2, CAP_NET_BIND_SERVICE permitted).
const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// everythingTree makes a folder with one of each that OSTree stores: modes,
// owners and xattrs of all kinds, links, empty files, names in any UTF-8, and
// two files that travel alone, one of which compresses. Needs root and user
// xattrs, and skips the test without.
func everythingTree(t *testing.T, dir, seed string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: files get other owners")
	}
	random := rand.NewChaCha8(sha256.Sum256([]byte(seed)))
	hexFile := []byte(hex.EncodeToString(site.RandomBytes(random, 5<<20))) // compresses to half
	for _, f := range []struct {
		name    string
		content []byte
	}{
		{"etc/plain", []byte("plain " + seed)}, {"etc/empty", nil}, {"etc/secret", []byte("secret")},
		{"bin/run", []byte("#!/bin/sh")}, {"bin/su", []byte("su " + seed)}, {"bin/wall", []byte("wall")}, {"bin/ping", []byte("ping")},
		{"Größe/大小 ☃\n'-\"", []byte(seed)}, {"-r", []byte("a name like a flag")},
		{"etc/marked", []byte("marked")}, {"etc/owned", []byte("owned")},
		{"lib/random", site.RandomBytes(random, 5<<20)}, {"lib/hex", hexFile},
		{"shared/sticky/file", nil},
	} {
		must.OK(t, site.WriteFile(filepath.Join(dir, f.name), f.content, 0o644))
	}
	for name, target := range map[string]string{"etc/link": "plain", "etc/dangling": "/nowhere/ü " + seed, "bin/owned": "run"} {
		must.OK(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	must.OK(t, os.Mkdir(filepath.Join(dir, "void"), 0o755))
	for name, owner := range map[string][2]int{"etc/owned": {1, 2}, "bin/su": {1000, 1000}, "bin/owned": {3, 4}, "shared": {0, 50}} {
		must.OK(t, os.Lchown(filepath.Join(dir, name), owner[0], owner[1]))
	}
	for name, mode := range map[string]uint32{ // after the owners, whose change clears setuid
		"bin/run": 0o755, "bin/su": 0o4755, "bin/wall": 0o2755, "etc/secret": 0o600, "etc/owned": 0o640,
		"shared": 0o2775, "shared/sticky": 0o1777, "void": 0o700,
	} {
		must.OK(t, syscall.Chmod(filepath.Join(dir, name), mode))
	}
	for _, x := range [][3]string{
		{"etc/marked", "user.zwei", "two"}, {"etc/marked", "user.eins", "one\x00binary\xff"}, {"etc/marked", "user.leer", ""},
		{"bin/ping", "security.capability", capability}, {"void", "user.folder", "void"},
	} {
		err := unix.Lsetxattr(filepath.Join(dir, x[0]), x[1], []byte(x[2]), 0)
		if errors.Is(err, unix.ENOTSUP) {
			t.Skip("needs a file system with user xattrs")
		}
		must.OK(t, err)
	}
}

// checkout checks a commit out and lists all that it brings: type, mode, owner,
// xattrs, content. With user, what only root could write is left out, as a
// bare-user-only repository does.
func checkout(t *testing.T, repo, commit string, user bool) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	args := []string{"checkout", "--repo=" + repo, "--force-copy", "--fsync=false", commit, dir}
	if user {
		args = append(args, "-U")
	}
	must.OSTree(t, args...)
	var list strings.Builder
	must.OK(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%q", strings.TrimPrefix(path, dir))
		if err := describe(&list, path); err != nil {
			return err
		}
		list.WriteByte('\n')
		return nil
	}))
	must.OK(t, os.RemoveAll(dir))
	return list.String()
}

// describe writes what one file of a checkout is.
func describe(w *strings.Builder, path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	fmt.Fprintf(w, " %o %d:%d", st.Mode, st.Uid, st.Gid)
	names := make([]byte, 4096)
	n, err := unix.Llistxattr(path, names)
	if err != nil {
		return err
	}
	list := strings.FieldsFunc(string(names[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(list)
	for _, name := range list {
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, " %s=%q", name, value[:n])
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		fmt.Fprintf(w, " -> %q", target)
		return err
	case unix.S_IFREG:
		content, err := os.ReadFile(path)
		fmt.Fprintf(w, " %d %x", len(content), sha256.Sum256(content))
		return err
	}
	return nil
}

// incompressible is a text of random bytes.
func incompressible(n int) string {
	return string(site.RandomBytes(rand.NewChaCha8([32]byte{3}), n))
}
