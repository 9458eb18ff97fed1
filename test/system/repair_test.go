// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// objectsOf lists the files of a repository's objects: files first, then metadata.
func objectsOf(t *testing.T, repo string) (files, metadata []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(repo, "objects", "*", "*"))
	must.OK(t, err)
	for _, path := range paths {
		if strings.HasPrefix(filepath.Ext(path), ".file") {
			files = append(files, path)
		} else {
			metadata = append(metadata, path)
		}
	}
	return files, metadata
}

// The ways to damage an object's file.
var damages = []func(path string, size int64) error{
	func(path string, size int64) error { return os.Truncate(path, size/2) },
	func(path string, size int64) error { return writeAt(path, size/2, []byte("damaged")) },
	func(path string, size int64) error { return writeAt(path, size, []byte("more")) },
	func(path string, _ int64) error { return os.Truncate(path, 0) },
	func(path string, _ int64) error { // another file of that name
		return os.WriteFile(path+".new", []byte("other"), 0o644)
	},
}

func writeAt(path string, at int64, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(b, at)
	return err
}

// damage damages a file in the i-th way, and tells how many bytes it had.
func damage(t *testing.T, path string, i int) int64 {
	t.Helper()
	info, err := os.Stat(path)
	must.OK(t, err)
	must.OK(t, damages[i%len(damages)](path, info.Size()))
	if _, err := os.Stat(path + ".new"); err == nil {
		must.OK(t, os.Rename(path+".new", path))
	}
	return info.Size()
}

// ruin deletes 20 objects and damages 20, metadata among both and the commit as
// asked, and tells how many bytes they had.
func ruin(t *testing.T, repo string, deleteCommit bool) (bytes int64) {
	t.Helper()
	files, metadata := objectsOf(t, repo)
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	slices.SortFunc(metadata, func(a, b string) int { // the commit first, and then every other of each kind
		return strings.Compare(filepath.Ext(a), filepath.Ext(b))
	})
	half := len(metadata) / 2
	lost, damaged := metadata[1:half], metadata[half:]
	if deleteCommit {
		lost = metadata[:half]
	} else {
		damaged = append(slices.Clone(metadata[half:]), metadata[0])
	}
	n := 20 - len(lost)
	lost = append(slices.Clone(lost), files[:n]...)
	damaged = append(slices.Clone(damaged), files[n:40-len(metadata)]...)
	for _, path := range lost {
		info, err := os.Stat(path)
		must.OK(t, err)
		bytes += info.Size()
		must.OK(t, os.Remove(path))
	}
	for i, path := range damaged {
		bytes += damage(t, path, i)
	}
	if len(lost) != 20 || len(damaged) != 20 {
		t.Fatalf("%d lost, %d damaged", len(lost), len(damaged))
	}
	return bytes
}

// ruinFiles deletes 20 objects of files and damages 20, in a repository in which no folder
// suffers.
func ruinFiles(t *testing.T, repo string) (paths []string) {
	t.Helper()
	files, _ := objectsOf(t, repo)
	for i, path := range files[:40] {
		if i < 20 {
			must.OK(t, os.Remove(path))
		} else {
			damage(t, path, i)
		}
	}
	return files[:40]
}

// A repair takes again what is damaged or gone, and about that alone, in each mode of
// repository; whoever has a damaged file open or linked keeps that.
func TestPushRepair(t *testing.T) {
	t.Parallel()
	for i, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := site.NewOf(t, mode)
			b := &site.Build{Repo: filepath.Join(s.Dir, "build"), Ref: "os/x"}
			tree := filepath.Join(s.Dir, "tree")
			must.OK(t, site.SmallTree(tree, 200, mode))
			b.Commit = site.Commit(t, b.Repo, "archive", b.Ref, tree, site.Canonical...)
			s.Push(b)
			s.EmptyStaging()
			lost := ruin(t, s.Prod, i%2 == 0)

			if e := s.Run("push", "--repo", b.Repo).Must(t, 0); e.Stdout != "nothing to do\n" {
				t.Errorf("without --repair: %s", e.Stdout)
			}
			if e := s.Run("check", "--content", "--repo", s.Prod).Must(t, 1); !strings.Contains(e.Stdout, "finding: ref os/x, commit "+b.Commit) {
				t.Errorf("check --content says\n%s", e.Stdout)
			}
			r := s.Push(b, "--repair")
			if r.Session.State != wire.Published || r.Repair == nil || r.Repair.Absent != 40 || r.ObjectsSent != 40 {
				t.Errorf("repair %+v: %d objects sent, session %+v", r.Repair, r.ObjectsSent, r.Session)
			}
			if r.BytesSent < lost*9/10 || r.BytesSent > lost*11/10 {
				t.Errorf("%d bytes sent for %d", r.BytesSent, lost)
			}
			must.OSTree(t, "fsck", "--repo="+s.Prod)
			s.Run("check", "--content", "--repo", s.Prod).Must(t, 0)
			same(t, "ostree ls", must.OSTree(t, "ls", "-RCX", "--repo="+s.Prod, b.Commit), must.OSTree(t, "ls", "-RCX", "--repo="+b.Repo, b.Commit))
			nothing := s.Push(b, "--repair")
			if nothing.Repair.Absent != 0 || nothing.ObjectsSent != 0 || nothing.Repair.Objects != r.Repair.Objects {
				t.Errorf("a repair of what is whole: %+v, %d objects sent", nothing.Repair, nothing.ObjectsSent)
			}
		})
	}
}

// In a bucket, which this store keeps as a folder, the same is found and mended while the
// server runs; readers pull all of it afterwards.
func TestRepairInBucket(t *testing.T) {
	t.Parallel()
	s := site.At(t, t.TempDir())
	s.MakeToken()
	s.InGateway()
	t.Cleanup(s.End)
	s.Start("--init")
	b := &site.Build{Repo: filepath.Join(s.Dir, "build"), Ref: "os/x"}
	tree := filepath.Join(s.Dir, "tree")
	must.OK(t, site.SmallTree(tree, 200, "archive"))
	b.Commit = site.Commit(t, b.Repo, "archive", b.Ref, tree, site.Canonical...)
	s.Push(b)
	s.EmptyStaging()
	s.Run("check", "--content").Must(t, 0)
	for i := range 3 {
		ruined := ruinFiles(t, s.Prod)
		if i > 0 { // folders and the commit, too, below which not all is found at once
			for _, path := range ruined {
				must.Run(t, "cp", b.Repo+strings.TrimPrefix(path, s.Prod), path)
			}
			ruin(t, s.Prod, i == 1)
			ruined = nil
		}
		e := s.Run("check", "--content").Must(t, 1)
		if !strings.Contains(e.Stdout, "finding: ref os/x, commit "+b.Commit) || !strings.Contains(e.Stderr, "\nhint: ostree-upload push --repair REF") {
			t.Errorf("check --content says\n%s%s", e.Stdout, e.Stderr)
		}
		for _, path := range ruined {
			if object := filepath.Base(filepath.Dir(path)) + filepath.Base(path); strings.Count(e.Stdout, ": object "+object+": ") != 1 {
				t.Errorf("%s is not found once:\n%s", object, e.Stdout)
			}
		}
		r := s.Push(b, "--repair")
		if r.Session.State != wire.Published || r.Repair == nil || r.Repair.Absent != 40 || r.ObjectsSent != 40 {
			t.Errorf("repair %+v: %d objects sent, session %+v", r.Repair, r.ObjectsSent, r.Session)
		}
		s.EmptyStaging()
		must.OSTree(t, "fsck", "--repo="+s.Prod)
		s.Run("check", "--content").Must(t, 0)
	}
}

// What a bare repository keeps beside the content of a file counts as well.
func TestRepairAttributes(t *testing.T) {
	t.Parallel()
	for mode, change := range map[string]func(path string) error{
		"bare-user": func(path string) error { return unix.Setxattr(path, "user.ostreemeta", make([]byte, 12), 0) },
		userOnly:    func(path string) error { return os.Chmod(path, 0o755) },
		"bare":      func(path string) error { return os.Chown(path, 7, 8) },
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := site.NewOf(t, mode)
			b := &site.Build{Repo: filepath.Join(s.Dir, "build"), Ref: "os/x"}
			site.Chain(t, b.Repo, b.Ref, 1)
			s.Push(b)
			files, _ := objectsOf(t, s.Prod)
			linked := filepath.Join(s.Dir, "linked")
			must.OK(t, os.Link(files[0], linked))
			must.OK(t, change(files[0]))
			if r := s.Push(b, "--repair"); r.Repair.Absent != 1 {
				t.Errorf("%+v", r.Repair)
			}
			must.OSTree(t, "fsck", "--repo="+s.Prod)
			before, err := os.Stat(linked)
			must.OK(t, err)
			now, err := os.Stat(files[0])
			must.OK(t, err)
			if os.SameFile(before, now) {
				t.Error("the damaged file was changed in place")
			}
		})
	}
}

// Detached metadata that is damaged is replaced by what the build repository has.
func TestRepairSignatures(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	b := site.Small(t, "os/x", "signed")
	site.DummySign(t, b.Repo, b.Commit, "key")
	s.Push(b)
	path := filepath.Join(s.Prod, "objects", b.Commit[:2], b.Commit[2:]+".commitmeta")
	info, err := os.Stat(path)
	must.OK(t, err)
	must.OK(t, os.Truncate(path, info.Size()/2))
	if e := s.Run("push", "--repo", b.Repo).Must(t, 1); !strings.Contains(e.Stderr, "hint: replace it by that of the build repository: push --repair") {
		t.Errorf("it says\n%s", e.Stderr)
	}
	s.Push(b, "--repair")
	site.DummySign(t, s.Prod, b.Commit, "key", "--verify")
}

// A repair of refs whose history is damaged goes as deep as it is told.
func TestRepairHistory(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	b := &site.Build{Repo: filepath.Join(s.Dir, "build"), Ref: "os/x"}
	commits := site.Chain(t, b.Repo, b.Ref, 4)
	s.Push(b)
	lose := func(commit string) {
		must.OK(t, os.Remove(filepath.Join(s.Prod, "objects", commit[:2], commit[2:]+".commit")))
	}
	lose(commits[0])
	lose(commits[2])
	// ostree fsck marks what lacks files, and never takes a mark away.
	s.EmptyStaging()
	must.OK(t, os.Remove(filepath.Join(s.Prod, "objects", sharedBy(t, b.Repo, ostree.File, commits[1], commits[3]).Path())))
	if out, err := site.OSTree("fsck", "--repo="+s.Prod); err == nil {
		t.Errorf("ostree fsck finds nothing: %s", out)
	}
	for _, c := range []struct {
		args   []string
		absent int64
	}{{nil, 1}, {[]string{"--depth=1"}, 1}, {[]string{"--history"}, 1}, {[]string{"--history"}, 0}} {
		if r := s.Push(b, append(c.args, "--repair")...); r.Repair.Absent != c.absent {
			t.Errorf("%v: %+v", c.args, r.Repair)
		}
		must.OSTree(t, "fsck", "--repo="+s.Prod)
	}

	// The commit that the ref names is gone when the next one is pushed.
	lose(commits[3])
	site.Chain(t, b.Repo, b.Ref, 5)
	if r := s.Push(b, "--repair"); r.Session.State != wire.Published {
		t.Errorf("%+v", r.Session)
	}
	must.OSTree(t, "fsck", "--repo="+s.Prod)
}

// A repair of what is damaged here as well ends with an error, and changes nothing.
func TestRepairFromDamaged(t *testing.T) {
	t.Parallel()
	s := site.New(t)
	b := site.Small(t, "os/x", "damaged on both ends")
	s.Push(b)
	files, _ := objectsOf(t, b.Repo)
	there := strings.Replace(files[0], b.Repo, s.Prod, 1)
	good, err := os.ReadFile(there)
	must.OK(t, err)
	for _, path := range []string{files[0], there} {
		must.OK(t, os.Chmod(path, fs.FileMode(0o644)))
		damage(t, path, 1)
	}
	e := s.Run("push", "--repair", "--repo", b.Repo).Must(t, 1)
	if !strings.Contains(e.Stderr, "in the build repository is damaged") {
		t.Errorf("%s", e.Stderr)
	}
	must.OK(t, os.WriteFile(there, good, 0o644))
}
