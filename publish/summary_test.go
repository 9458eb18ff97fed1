// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/must"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/publish"
	ts "github.com/lirios/ostree-upload/test/server"
)

// summaryFiles is what clients of a summary read, by name.
func summaryFiles(t *testing.T, repo string) string {
	t.Helper()
	var all strings.Builder
	for _, name := range []string{"summary", "summary.sig", "summary.idx"} {
		b, err := os.ReadFile(filepath.Join(repo, name))
		if err == nil {
			all.WriteString(name + ": " + string(b) + "\n")
		} else if !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	return all.String()
}

// A summary that others keep, and that became theirs while the server runs, is
// left alone whatever the setting, also for the moment in which a signature is
// made; the pusher is told. Without such a sign the setting decides.
func TestSummary(t *testing.T) {
	const left = "left as it is"
	sign := func(t *testing.T, repo string) {
		must.OSTree(t, "summary", "--repo="+repo, "-u")
		must.OK(t, os.WriteFile(filepath.Join(repo, "summary.sig"), []byte("x"), 0o644))
	}
	for name, tt := range map[string]struct {
		setting string
		prepare func(t *testing.T, repo string)
		words   string // in the session's detail, "" if there is none
		written bool
	}{
		"no summary, auto":   {config.SummaryAuto, func(*testing.T, string) {}, "", false},
		"no summary, never":  {config.SummaryNever, func(*testing.T, string) {}, "", false},
		"no summary, always": {config.SummaryAlways, func(*testing.T, string) {}, "", true},
		"no summary, the repository's own setting": {config.SummaryAuto, func(t *testing.T, repo string) {
			must.OSTree(t, "config", "--repo="+repo, "set", "core.auto-update-summary", "true")
		}, "", true},
		"signed, auto":   {config.SummaryAuto, sign, "summary.sig", false},
		"signed, always": {config.SummaryAlways, sign, "summary.sig", false},
		"signed, never":  {config.SummaryNever, sign, "configuration says never", false},
		"signed, the repository's own setting": {config.SummaryAuto, func(t *testing.T, repo string) {
			sign(t, repo)
			must.OSTree(t, "config", "--repo="+repo, "set", "core.auto-update-summary", "true")
		}, "summary.sig", false},
		"for Flatpak, auto":   {config.SummaryAuto, flatpakSummary, "summary.idx", false},
		"for Flatpak, always": {config.SummaryAlways, flatpakSummary, "summary.idx", false},
		"foreign key": {config.SummaryAuto, func(t *testing.T, repo string) {
			must.OSTree(t, "summary", "--repo="+repo, "-u", "--add-metadata=os.name='x'")
		}, "foreign key os.name", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := ts.Start(t, "archive")
			s.Change(func(c *config.Config) { c.Summary = tt.setting })
			repo, c := build(t, "one", "two")
			tt.prepare(t, s.Repo)
			before := summaryFiles(t, s.Repo)
			got := s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", New: c[0].String()})
			want(t, got, wire.Published, "", tt.words)
			if (got.Detail != "") != (tt.words != "") || tt.words != "" && !strings.Contains(got.Detail, left) {
				t.Errorf("detail %q", got.Detail)
			}
			if written := summaryFiles(t, s.Repo) != before; written != tt.written {
				t.Errorf("written: %v; now\n%q", written, summaryFiles(t, s.Repo))
			}
			if os.Remove(filepath.Join(s.Repo, "summary.sig")) == nil && tt.setting != config.SummaryNever {
				got := s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", Old: c[0].String(), New: c[1].String()})
				want(t, got, wire.Published, "", left)
			}
		})
	}
}

// flatpakSummary makes a summary as Flatpak does, with an index.
func flatpakSummary(t *testing.T, repo string) {
	t.Helper()
	if _, err := exec.LookPath("flatpak"); err != nil {
		t.Skip("flatpak is not installed")
	}
	must.Run(t, "flatpak", "build-update-repo", repo)
}

// A start warns of a summary that is left alone, with the reason and no empty
// error, and of none where there is none.
func TestSummaryWarning(t *testing.T) {
	for name, tt := range map[string]struct {
		setting publish.Summary
		there   bool
		want    string
	}{
		"never":             {publish.Never, true, "says never"},
		"never, no summary": {publish.Never, false, ""},
		"auto":              {publish.Auto, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			repo := filepath.Join(t.TempDir(), "repo")
			must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
			if tt.there {
				must.OSTree(t, "summary", "--repo="+repo, "-u")
			}
			var log bytes.Buffer
			publish.WarnOfSummary(repo, tt.setting, slog.New(slog.NewTextHandler(&log, nil)))
			got := log.String()
			if strings.Contains(got, "err=") || (got != "") != (tt.want != "") || !strings.Contains(got, tt.want) {
				t.Errorf("log %q", got)
			}
		})
	}
}
