// SPDX-License-Identifier: AGPL-3.0-or-later

package server_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/server"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/gpg"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// published is a server that was stopped after it published a commit as ref x, and keeps up
// the summary. It runs again when the test ends, which stops it.
//
// Nothing here runs in parallel: a program that another test starts holds a copy of the lock
// for a moment, which this process has let go of.
func published(t *testing.T, mode string, change func(*config.Config)) (*ts.Server, ostree.Checksum) {
	t.Helper()
	build := filepath.Join(t.TempDir(), "build")
	commit := ts.Commit(t, build, "x", "salt", 5)
	s := ts.Start(t, mode)
	s.MakeSummary()
	s.Change(change)
	if got := s.Client(s.Token).Push(build, wire.Ref{Ref: "x", New: commit.String()}); got.State != wire.Published {
		t.Fatalf("%+v", got)
	}
	must.Wait(t, "nothing is due any more", func() bool {
		due, err := s.Journal.Works()
		must.OK(t, err)
		return len(due) == 0
	})
	s.Stop()
	t.Cleanup(s.Run)
	return s, commit
}

// checked is what check finds, but for what the janitor has not deleted yet.
func checked(t *testing.T, s *ts.Server, repair bool) (findings, notes string) {
	t.Helper()
	r, err := server.Check(t.Context(), s.Options(), repair)
	must.OK(t, err)
	left := slices.DeleteFunc(r.Notes, func(n string) bool { return strings.HasPrefix(n, "staged objects that no session needs") })
	return strings.Join(r.Findings, "\n"), strings.Join(left, "\n")
}

// A summary that does not show what was published is a finding if the server is to write
// it; what others moved, and what a start signs, is a note. A repair writes it, but not
// another's.
func TestCheckSummary(t *testing.T) {
	k := gpg.New(t)
	sign := func(c *config.Config) { c.Sign.GPG = config.GPG{Homedir: k.Home(), Keys: []string{k.Fingerprint(0)}} }
	unsigned := func(*config.Config) {}
	other := func(_ *testing.T, s *ts.Server, commit string) { s.SetRef("y", commit) }
	file := func(s *ts.Server, name string) string { return filepath.Join(s.Repo, name) }
	anew := func(t *testing.T, s *ts.Server, _ string) { must.OSTree(t, "summary", "--repo="+s.Repo, "-u") }
	for name, tt := range map[string]struct {
		mode          string
		settings      func(*config.Config)
		do            func(t *testing.T, s *ts.Server, commit string)
		finding, note string // "" for none
		kept          bool   // also by a repair
	}{
		"as it was":              {"archive", unsigned, func(*testing.T, *ts.Server, string) {}, "", "", true},
		"another's ref":          {"archive", unsigned, other, "", "the summary has ref y at no commit, and it is at COMMIT, where others moved it;", false},
		"another's ref, signed":  {"archive", sign, other, "", "the summary has ref y at no commit, and it is at COMMIT, where others moved it;", false},
		"another's ref, bucket":  {ts.InBucket, unsigned, other, "", "the summary has ref y at no commit, and it is at COMMIT, where others moved it;", false},
		"as it was, in a bucket": {ts.InBucket, unsigned, func(*testing.T, *ts.Server, string) {}, "", "", true},
		"a ref is gone": {"archive", unsigned, func(t *testing.T, s *ts.Server, commit string) {
			s.SetRef("y", commit)
			anew(t, s, commit)
			s.SetRef("y", "")
		}, "", "the summary has ref y at COMMIT, and it is at no commit, where others moved it;", false},
		"what was published": {"archive", unsigned, func(t *testing.T, s *ts.Server, commit string) {
			s.SetRef("x", "")
			anew(t, s, commit)
			s.SetRef("x", commit)
		}, "the summary has ref x at no commit, and it is at COMMIT;", "", false},
		"an empty file": {"archive", unsigned, func(t *testing.T, s *ts.Server, _ string) {
			must.OK(t, os.Truncate(file(s, "summary"), 0))
		}, "the summary is damaged: ", "", false},
		"never":     {"archive", func(c *config.Config) { c.Summary = config.SummaryNever }, other, "", "the server's configuration says never", true},
		"foreign":   {"archive", unsigned, foreign, "", "foreign key os.name", true},
		"no longer": {"archive", sign, anew, "", "the summary is not signed (summary.sig is missing)", false},
		"an old signature": {"archive", sign, func(t *testing.T, s *ts.Server, commit string) {
			old, err := os.ReadFile(file(s, "summary.sig"))
			must.OK(t, err)
			anew(t, s, commit)
			must.OK(t, os.WriteFile(file(s, "summary.sig"), old, 0o644))
		}, "", "summary.sig lacks a signature of this summary", false},
		"a signature of others": {"archive", unsigned, func(t *testing.T, s *ts.Server, commit string) {
			must.OK(t, k.SignSummary(s.Repo, 1))
			s.SetRef("y", commit)
		}, "", "and the key is not here", true},
	} {
		t.Run(name, func(t *testing.T) {
			s, commit := published(t, tt.mode, tt.settings)
			tt.do(t, s, commit.String())
			findings, notes := checked(t, s, false)
			wantText(t, "findings", findings, strings.ReplaceAll(tt.finding, "COMMIT", commit.String()))
			wantText(t, "notes", notes, strings.ReplaceAll(tt.note, "COMMIT", commit.String()))
			findings, repaired := checked(t, s, true)
			wantText(t, "findings of a repair", findings, "")
			if tt.kept != (repaired == notes) && tt.finding == "" {
				t.Errorf("notes of a repair: %q, before: %q", repaired, notes)
			}
		})
	}
}

// foreign moves a ref beside a summary that another program keeps.
func foreign(t *testing.T, s *ts.Server, commit string) {
	must.OSTree(t, "summary", "--repo="+s.Repo, "-u", "--add-metadata=os.name='x'")
	s.SetRef("y", commit)
}

func wantText(t *testing.T, what, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) || want == "" && got != "" {
		t.Errorf("%s %q, want %q", what, got, want)
	}
}

// A ref of which the file is damaged is a finding, with the command that puts it back where
// its session brought it.
func TestCheckDamagedRef(t *testing.T) {
	for name, content := range map[string]string{"empty": "", "no checksum": "spoilt\n", "cut": strings.Repeat("a", 40)} {
		t.Run(name, func(t *testing.T) {
			s, commit := published(t, "archive", func(*config.Config) {})
			path := filepath.Join(s.Repo, "refs/heads/x")
			must.OK(t, os.WriteFile(path, []byte(content), 0o644))
			command := "echo " + commit.String() + " > " + path
			for _, repair := range []bool{false, true} {
				findings, _ := checked(t, s, repair)
				if !strings.HasPrefix(findings, "ref x of repository ") || !strings.HasSuffix(findings, "; write it again: "+command) {
					t.Errorf("findings %q", findings)
				}
			}
			must.Run(t, "sh", "-c", command)
			findings, notes := checked(t, s, false)
			wantText(t, "findings and notes", findings+notes, "")
		})
	}
}

// A damaged ref that no session has published is named, too; an alias of a damaged ref is not.
func TestCheckDamagedRefOfOthers(t *testing.T) {
	s, commit := published(t, "archive", func(*config.Config) {})
	s.SetRef("hand/made", commit.String())
	must.OSTree(t, "refs", "--repo="+s.Repo, "--alias", "--create=alias", "hand/made")
	path := filepath.Join(s.Repo, "refs/heads/hand/made")
	must.OK(t, os.Truncate(path, 0))
	findings, _ := checked(t, s, false)
	if strings.Count(findings, "\n") > 0 || !strings.Contains(findings, "write it again: echo COMMIT > "+path+", with the commit that it is to name") {
		t.Errorf("findings %q", findings)
	}
	must.OK(t, os.Remove(filepath.Join(s.Repo, "refs/heads/alias")))
	must.OK(t, os.Remove(path))
}

// In a bucket it is an object that is to be written.
func TestCheckDamagedRefInBucket(t *testing.T) {
	s, commit := published(t, ts.InBucket, func(*config.Config) {})
	_, err := s.Bucket().Put(t.Context(), "refs/heads/x", []byte("spoilt"))
	must.OK(t, err)
	findings, _ := checked(t, s, false)
	if strings.Count(findings, "\n") > 0 || !strings.Contains(findings, "write it again: echo "+commit.String()+" | aws s3 cp --endpoint-url ") || !strings.HasSuffix(findings, " - s3://repositories/os/prod/refs/heads/x") {
		t.Errorf("findings %q", findings)
	}
	s.SetRef("x", commit.String())
	findings, _ = checked(t, s, false)
	wantText(t, "findings", findings, "")
}
