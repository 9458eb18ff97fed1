// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/token"
)

// TestFileReadsAgain walks one file through what may happen to it while a
// server runs: changed, broken, emptied, removed, and back.
func TestFileReadsAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	write(t, path, "repo: one\n", 0o600)
	var log bytes.Buffer
	f, err := OpenFile(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		name   string
		do     func()
		repo   string
		logged string // in the one new line of the log; "": no line
	}{
		{"untouched", func() {}, "one", ""},
		{"written over", func() { write(t, path, "repo: two\n", 0o600) }, "two", "read again"},
		{"renamed over", func() { renameOver(t, path, "repo: 3rd\n") }, "3rd", "read again"},
		{"broken", func() { write(t, path, "repos: x\n", 0o600) }, "3rd", "unknown key"},
		{"still broken", func() {}, "3rd", ""},
		{"emptied", func() { write(t, path, "", 0o600) }, "3rd", "empty"},
		{"removed", func() { os.Remove(path) }, "3rd", "cannot be read"},
		{"still removed", func() {}, "3rd", ""},
		{"back", func() { write(t, path, "repo: four\n", 0o600) }, "four", "read again"},
		{"made readable", func() { os.Chmod(path, 0o640) }, "four", "read again"},
	} {
		log.Reset()
		tt.do()
		// A step per second: file systems may keep coarser times than this test runs in.
		if at := time.Now().Add(time.Duration(i) * time.Second); tt.logged != "" {
			os.Chtimes(path, at, at)
		}
		if got := f.Current().Repo; got != tt.repo {
			t.Errorf("%s: repo %s, want %s", tt.name, got, tt.repo)
		}
		lines := strings.Count(log.String(), "\n")
		if tt.logged == "" && lines != 0 || tt.logged != "" && (lines != 1 || !strings.Contains(log.String(), tt.logged)) {
			t.Errorf("%s: logged %q", tt.name, log.String())
		}
	}
}

// TestFileIsReplacedElsewhere pins that who runs the server learns that its file, which
// is mounted by itself, was replaced where it is mounted from: what its path leads to
// has no name any more.
func TestFileIsReplacedElsewhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	write(t, path, "repo: one\n", 0o600)
	held, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	var log bytes.Buffer
	f, err := OpenFile(fmt.Sprint("/proc/self/fd/", held.Fd()), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	renameOver(t, path, "repo: two\n")
	for range 2 {
		if got := f.Current().Repo; got != "one" || strings.Count(log.String(), "level=ERROR") != 1 || !strings.Contains(log.String(), "mount its folder") {
			t.Errorf("repo %s, logged %q", got, log.String())
		}
	}
}

// TestFileSeesNewToken pins that gentoken's token works at once.
func TestFileSeesNewToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	write(t, path, "repo: r\n", 0o600)
	f, err := OpenFile(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	plain, made := token.Generate(token.Options{Name: "ci"})
	if _, err := token.Find(f.Current().Tokens, plain, time.Now()); err == nil {
		t.Error("accepted before it was added")
	}
	add(t, path, made)
	if _, err := token.Find(f.Current().Tokens, plain, time.Now()); err != nil {
		t.Error(err)
	}
}

func renameOver(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text, 0o600)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
