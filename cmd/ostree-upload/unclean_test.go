// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
)

// killedMidway kills the client of a push of b when most of it has arrived and,
// when all whole objects of that are staged, the server. It returns the session.
func killedMidway(s *site, l *link.Proxy, b *build) (session string) {
	s.t.Helper()
	if out, err := runKilled(s.command("push", "--repo", b.repo, "--jobs", "2"), l, b.payload*4/5); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	session = s.openSession().ID
	client, err := client.New(s.url, s.token)
	if err != nil {
		s.t.Fatal(err)
	}
	defer client.Close()
	if err := client.Salvage(s.t.Context(), session); err != nil {
		s.t.Fatal(err)
	}
	s.server.kill()
	return session
}

// staged is where the server keeps what it verified.
func (s *site) staged() string {
	return filepath.Join(s.prod, ".ostree-upload", "staged", "objects")
}

// What a power cut damaged in staging needs no person: it is found and sent
// again, whether it came in a pack or alone.
func TestPowerCutDamagesStaging(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), big(t)
	l := s.link()
	id := killedMidway(s, l, b)
	packed := damageOne(t, s.staged(), func(size int64) bool { return size <= wire.MaxPackPayload })
	alone := damageOne(t, s.staged(), func(size int64) bool { return size > wire.MaxPackPayload })
	if out := s.run("check", "--repo", "prod").must(t, 0).stdout; strings.Count(out, "note: staged file ") != 2 {
		t.Errorf("check says of two files that the next start sees to:\n%s", out)
	}
	s.restart(l)
	if !strings.Contains(s.server.log.String(), `"staged objects are lost; they count as missing" session=`+id+" objects=2") {
		t.Error("they do not count as missing")
	}
	for _, path := range []string{packed, alone} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s was trusted", path)
		}
	}
	s.push(b, "--resume", id)
	published(t, b, s.prod)
}

// A staged object that is gone after a clean stop is a finding; once repaired it
// counts as missing, and is sent again.
func TestStagedObjectGone(t *testing.T) {
	t.Parallel()
	p := prepare(t)
	s := &site{t: t, dir: p.dir, prod: filepath.Join(p.dir, "prod"), token: p.token}
	files, err := filepath.Glob(filepath.Join(s.staged(), "*", "*.dirtree"))
	check(t, err)
	check(t, os.Remove(files[0]))
	object := filepath.Base(filepath.Dir(files[0])) + filepath.Base(files[0])
	finding := "finding: object " + object + " of session " + p.session + " is not staged any more\n"
	if out := s.run("check", "--repo", "prod").must(t, 1).stdout; out != finding {
		t.Errorf("check says %q, want %q", out, finding)
	}
	s.run("check", "--repo", "prod", "--repair").must(t, 0)
	s.start()
	if n := s.openSession().Objects.Missing; n != 1 {
		t.Errorf("%d objects are missing, want the one", n)
	}
	if r := s.push(&p.build, "--resume", p.session); r.ObjectsSent != 1 {
		t.Errorf("%d objects were sent", r.ObjectsSent)
	}
	p.arrived(s)
	check(t, s.server.stop())
}

// A server that fails to start before it has verified what an unclean stop left
// does not count as a clean stop: the next one would trust, and publish, what a
// power cut damaged.
func TestFailedStartAfterUncleanStop(t *testing.T) {
	t.Parallel()
	s, b := newSite(t), big(t)
	l := s.link()
	id := killedMidway(s, l, b)
	obstacle := filepath.Join(s.staged(), "00", strings.Repeat("0", 62)+".filez")
	if err := os.Mkdir(obstacle, 0o755); err != nil {
		t.Fatal(err)
	}
	if r, err := startReceiver(s.dir, os.Environ(), "--repo", "prod"); err == nil {
		r.kill()
		t.Fatal("it started although it could not verify what is staged")
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	s.restart(l)
	if !strings.Contains(s.server.log.String(), "unclean stop") {
		t.Error("what is staged was trusted")
	}
	s.push(b, "--resume", id)
	published(t, b, s.prod)
}

// damageOne cuts a staged file of a certain size short, as a power cut may.
func damageOne(t *testing.T, staged string, size func(int64) bool) (path string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(staged, "*", "*.filez"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if !size(info.Size()) {
			continue
		}
		if err := os.Truncate(path, info.Size()/2); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Fatalf("none of %d staged files is of that size", len(files))
	return ""
}

// After an unclean stop what is staged is verified as the disk has it, whatever
// memory holds: a sync may have failed.
func TestVerifyReadsTheDisk(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 64<<20)
	s, w := d.site("0"), newTwin(t, 4)
	w.next()
	unlock := lockRepository(t, s.prod)
	wait := background(t, s.command("push", "--repo", w.repo, "--retry-for", "0s"))
	if !untilState(t.Context(), s.api(), wire.Verifying) {
		t.Fatal("it does not verify")
	}
	s.server.kill()
	wait()
	unlock()
	if out, err := exec.Command("sync", "-f", d.dir).CombinedOutput(); err != nil {
		t.Fatalf("sync: %v\n%s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(s.staged(), "*", "*.filez"))
	check(t, err)
	path := slices.MaxFunc(files, func(a, b string) int { return int(fileSize(t, a) - fileSize(t, b)) })
	good, err := os.ReadFile(path)
	check(t, err)
	d.damage(good)
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, good) {
		t.Fatalf("memory does not hold it any more: %v", err)
	}
	s.start()
	if !strings.Contains(s.server.log.String(), "deleting a staged file that does not verify") {
		t.Error("what memory held was trusted")
	}
	s.push(&w.build)
	w.arrived(s)
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	check(t, err)
	return st.Size()
}

// damage changes a byte of a file's content on the disk, behind the back of the
// file system.
func (d *disk) damage(content []byte) {
	d.t.Helper()
	b, err := os.ReadFile(d.image)
	check(d.t, err)
	at := bytes.Index(b, content)
	if at < 0 {
		d.t.Fatal("the content is not on the disk in one piece")
	}
	f, err := os.OpenFile(d.image, os.O_WRONLY, 0)
	check(d.t, err)
	_, err = f.WriteAt([]byte{^content[len(content)/2]}, int64(at+len(content)/2))
	check(d.t, err)
	check(d.t, f.Close())
}
