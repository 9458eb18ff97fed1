// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// killedMidway kills the client of a push of b when most of it has arrived and,
// when all whole objects of that are staged, the server. It returns the session.
func killedMidway(s *site.Site, l *link.Proxy, b *site.Build) (session string) {
	s.T.Helper()
	if out, err := site.RunKilled(s.Command("push", "--repo", b.Repo, "--jobs", "2"), l, b.Payload*4/5); err != nil {
		s.T.Fatalf("%v\n%s", err, out)
	}
	session = s.OpenSession().ID
	client, err := client.New(s.URL, s.Token)
	if err != nil {
		s.T.Fatal(err)
	}
	defer client.Close()
	if err := client.Salvage(s.T.Context(), session); err != nil {
		s.T.Fatal(err)
	}
	s.Server.Kill()
	return session
}

// What a power cut damaged in staging needs no person: it is found and sent
// again, whether it came in a pack or alone.
func TestPowerCutDamagesStaging(t *testing.T) {
	t.Parallel()
	s, b := site.New(t), site.Big(t)
	l := s.Link()
	id := killedMidway(s, l, b)
	packed := damageOne(t, s.Staged(), func(size int64) bool { return size <= wire.MaxPackPayload })
	alone := damageOne(t, s.Staged(), func(size int64) bool { return size > wire.MaxPackPayload })
	if out := s.Run("check", "--repo", "prod").Must(t, 0).Stdout; strings.Count(out, "note: staged file ") != 2 {
		t.Errorf("check says of two files that the next start sees to:\n%s", out)
	}
	s.Restart(l)
	if !strings.Contains(s.Server.Log.String(), `"staged objects are lost; they count as missing" session=`+id+" objects=2") {
		t.Error("they do not count as missing")
	}
	for _, path := range []string{packed, alone} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s was trusted", path)
		}
	}
	s.Push(b, "--resume", id)
	site.Published(t, b, s.Prod)
}

// A staged object that is gone after a clean stop is a finding; once repaired it
// counts as missing, and is sent again.
func TestStagedObjectGone(t *testing.T) {
	t.Parallel()
	p := prepare(t)
	s := site.At(t, p.dir)
	s.Token = p.token
	files, err := filepath.Glob(filepath.Join(s.Staged(), "*", "*.dirtree"))
	must.OK(t, err)
	must.OK(t, os.Remove(files[0]))
	object := filepath.Base(filepath.Dir(files[0])) + filepath.Base(files[0])
	finding := "finding: object " + object + " of session " + p.session + " is not staged any more\n"
	if out := s.Run("check", "--repo", "prod").Must(t, 1).Stdout; out != finding {
		t.Errorf("check says %q, want %q", out, finding)
	}
	s.Run("check", "--repo", "prod", "--repair").Must(t, 0)
	s.Start()
	if n := s.OpenSession().Objects.Missing; n != 1 {
		t.Errorf("%d objects are missing, want the one", n)
	}
	if r := s.Push(&p.Build, "--resume", p.session); r.ObjectsSent != 1 {
		t.Errorf("%d objects were sent", r.ObjectsSent)
	}
	p.Arrived(s)
	must.OK(t, s.Server.Stop())
}

// A server that fails to start before it has verified what an unclean stop left
// does not count as a clean stop: the next one would trust, and publish, what a
// power cut damaged.
func TestFailedStartAfterUncleanStop(t *testing.T) {
	t.Parallel()
	s, b := site.New(t), site.Big(t)
	l := s.Link()
	id := killedMidway(s, l, b)
	obstacle := filepath.Join(s.Staged(), "00", strings.Repeat("0", 62)+".filez")
	if err := os.Mkdir(obstacle, 0o755); err != nil {
		t.Fatal(err)
	}
	if r, err := site.StartReceiver(s.Dir, os.Environ(), "--repo", "prod"); err == nil {
		r.Kill()
		t.Fatal("it started although it could not verify what is staged")
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	s.Restart(l)
	if !strings.Contains(s.Server.Log.String(), "unclean stop") {
		t.Error("what is staged was trusted")
	}
	s.Push(b, "--resume", id)
	site.Published(t, b, s.Prod)
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
	d := site.NewDisk(t, 64<<20)
	s, w := d.Site("0"), site.NewTwin(t, 4)
	w.Next()
	unlock := site.LockRepository(t, s.Prod)
	wait := site.Background(t, s.Command("push", "--repo", w.Repo, "--retry-for", "0s"))
	if !site.UntilState(t.Context(), s.API(), wire.Verifying) {
		t.Fatal("it does not verify")
	}
	s.Server.Kill()
	wait()
	unlock()
	must.Run(t, "sync", "-f", d.Dir)
	files, err := filepath.Glob(filepath.Join(s.Staged(), "*", "*.filez"))
	must.OK(t, err)
	path := slices.MaxFunc(files, func(a, b string) int { return int(fileSize(t, a) - fileSize(t, b)) })
	good, err := os.ReadFile(path)
	must.OK(t, err)
	d.Damage(good)
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, good) {
		t.Fatalf("memory does not hold it any more: %v", err)
	}
	s.Start()
	if !strings.Contains(s.Server.Log.String(), "deleting a staged file that does not verify") {
		t.Error("what memory held was trusted")
	}
	s.Push(&w.Build)
	w.Arrived(s)
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	must.OK(t, err)
	return st.Size()
}
