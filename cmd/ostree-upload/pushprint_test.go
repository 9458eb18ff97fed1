// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"testing"
)

// A push that left a ref out and then failed says of no ref that it is published.
func TestFailedPushPrintsNothing(t *testing.T) {
	if _, err := exec.LookPath("ostree"); err != nil {
		t.Skip(err)
	}
	repo, tree := filepath.Join(t.TempDir(), "build"), t.TempDir()
	for _, args := range [][]string{
		{"init", "--repo=" + repo, "--mode=archive"},
		{"commit", "--repo=" + repo, "--branch=good", "--tree=dir=" + tree},
		{"refs", "--repo=" + repo, "--create=unbound", "good"},
	} {
		if out, err := exec.Command("ostree", args...).CombinedOutput(); err != nil {
			t.Fatalf("ostree %q: %v: %s", args, err, out)
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/api/v1/refs":
			_, _ = w.Write([]byte(`{"refs":{}}`))
		case "/api/v1/info":
			_, _ = w.Write([]byte(`{}`))
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(server.Close)
	var stdout, stderr bytes.Buffer
	exit := run([]string{"push", "--repo", repo, "--address", server.URL, "--token", "t", "--retry-for", "0s"}, &stdout, &stderr)
	if exit != 75 || stdout.Len() > 0 {
		t.Errorf("exit %d, stdout %q, stderr %q", exit, &stdout, &stderr)
	}
}
