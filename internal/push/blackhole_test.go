// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package push

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/test/link"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/server"
)

// A link that swallows everything for a while, in the middle of a push to a real
// server: no connection ends, and those that there were stay dead. The push
// notices by itself, goes on over new ones, and sends little twice.
func TestPushThroughABlackHole(t *testing.T) {
	const files, size, payload = 60, 200_000, 60 * 200_000
	repo, tree := filepath.Join(t.TempDir(), "repo"), t.TempDir()
	for i := range files {
		b := make([]byte, size) // does not compress
		rand.Read(b)
		must.OK(t, os.WriteFile(filepath.Join(tree, fmt.Sprint("file", i)), b, 0o644))
	}
	must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
	head := must.OSTree(t, "commit", "--fsync=false", "--repo="+repo, "--branch="+testRef, "--tree=dir="+tree)
	s := server.Start(t, ostree.ModeArchive)
	l, err := link.Listen(strings.TrimPrefix(s.URL, "http://"))
	must.OK(t, err)
	t.Cleanup(func() { l.Close() })

	opt := Options{
		Repo: repo, Server: client.Options{Address: "http://" + l.Address(), Token: s.Token}, Depth: -1,
		RetryFor: time.Hour, Progress: new(Progress),
	}
	ctx, ended := context.WithCancel(client.WithStall(t.Context(), 5*time.Second))
	dark, noticed := make(chan bool), make(chan bool)
	l.At(payload/2, func() {
		l.BlackHole(true)
		close(dark)
	})
	go func() {
		defer close(noticed)
		select {
		case <-dark:
		case <-ctx.Done():
			t.Error("the push ended before")
		}
		before := opt.Progress.Traffic.Retries.Load()
		for opt.Progress.Traffic.Retries.Load() == before && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		l.BlackHole(false)
	}()
	result, err := Run(ctx, opt)
	ended()
	<-noticed
	must.OK(t, err)
	if s.Ref(testRef) != head || result.Retries == 0 {
		t.Errorf("ref at %q, want %s; %d retries", s.Ref(testRef), head, result.Retries)
	}
	// Beside the payload: frames, negotiation, HTTP; and what each connection had
	// delivered of a request when it went dead, which the server may have dropped.
	extra := l.Delivered() - payload
	t.Logf("%d bytes delivered for %d: %.2f%% more; %d retries", l.Delivered(), payload, 100*float64(extra)/payload, result.Retries)
	if most := int64(payload*2/100 + DefaultJobs*64<<10); extra > most {
		t.Errorf("%d bytes delivered for %d: %d more, not %d", l.Delivered(), payload, extra, most)
	}
}
