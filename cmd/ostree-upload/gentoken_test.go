// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/token"
)

// TestGentoken pins that stdout is the token and nothing else, that it works,
// and that it is not in the file.
func TestGentoken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	var stdout, stderr strings.Builder
	exit := run([]string{"gentoken", "-c", path, "--name", "ci", "--ref", "os/**", "--ref", "x",
		"--scope", "push", "--scope", "force", "--expires", "1d"}, &stdout, &stderr)
	plain, _, ended := strings.Cut(stdout.String(), "\n")
	if exit != 0 || !ended || len(plain) != 64 || stdout.Len() != 65 {
		t.Fatalf("exit %d, stdout %q, stderr %q", exit, stdout.String(), stderr.String())
	}
	if strings.Contains(stderr.String(), plain) || !strings.Contains(stderr.String(), "added token ci") {
		t.Errorf("stderr %q", stderr.String())
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	made, err := token.Find(c.Tokens, plain, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if !made.MayPush("os/a/b") || !made.MayPush("x") || made.MayPush("y") || !made.May(token.Force) {
		t.Errorf("%+v", made)
	}
	if _, err := token.Find(c.Tokens, plain, time.Now().Add(25*time.Hour)); err == nil {
		t.Error("does not expire")
	}
}

func TestGentokenRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	for _, tt := range []struct {
		args   string
		exit   int
		stderr string
	}{
		{"--name ci", 0, "added token ci"},
		{"--name ci", 1, "there is a token ci already\nhint: choose another --name"},
		{"--name a/b", 2, "not a token name"},
		{"--ref os/[ab]", 2, "glob"},
		{"--scope all", 2, "is not one of push"},
		{"--expires tomorrow", 2, "not a duration"},
		{"--expires=-1h", 2, "not a duration"},
	} {
		var stdout, stderr strings.Builder
		exit := run(append([]string{"gentoken", "-c", path}, strings.Fields(tt.args)...), &stdout, &stderr)
		if exit != tt.exit || !strings.Contains(stderr.String(), tt.stderr) {
			t.Errorf("%q: exit %d, stderr %q", tt.args, exit, stderr.String())
		}
		if exit != 0 && stdout.Len() > 0 {
			t.Errorf("%q: stdout %q", tt.args, stdout.String())
		}
	}
}

// TestGentokenUnseen pins what to do about a token that is in the file and that nobody
// could read.
func TestGentokenUnseen(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no /dev/full")
	}
	defer full.Close()
	path := filepath.Join(t.TempDir(), "c.yaml")
	var stderr strings.Builder
	exit := run([]string{"gentoken", "-c", path, "--name", "ci"}, full, &stderr)
	if exit != 1 || !strings.Contains(stderr.String(), "hint: nobody knows it now; make another: ostree-upload gentoken --config "+path+" --replace --name ci\n") {
		t.Errorf("exit %d, stderr %q", exit, stderr.String())
	}
}
