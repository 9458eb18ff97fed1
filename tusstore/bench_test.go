// SPDX-License-Identifier: AGPL-3.0-or-later

package tusstore

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tus/tusd/v2/pkg/handler"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
)

// BenchmarkIngest splits, verifies, stages and records the packs of a commit of
// the Go tree's sources, as if they had all just arrived.
func BenchmarkIngest(b *testing.B) {
	packs, names, size := benchPacks(b)
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		j, err := journal.OpenFile(filepath.Join(dir, "journal.db"))
		if err != nil {
			b.Fatal(err)
		}
		s, err := j.Create(journal.Session{}, time.Hour)
		if err != nil {
			b.Fatal(err)
		}
		for chunk := range chunks(names, 16000) {
			if err := j.Add(s.ID, chunk); err != nil {
				b.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		store, err := Open(ctx, Config{Dir: dir, Journal: j, Workers: runtime.GOMAXPROCS(0), Limits: func() Limits { return Limits{} }, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		for i, p := range packs {
			u, err := store.NewUpload(ctx, handler.FileInfo{ID: ID(s.ID, fmt.Sprint("p", i)), Size: int64(len(p))})
			if err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(u.(*upload).store.dataPath(s.ID, fmt.Sprint("p", i)), p, 0o600); err != nil {
				b.Fatal(err)
			}
			if err := u.FinishUpload(ctx); err != nil {
				b.Fatal(err)
			}
		}
		done := make(chan error)
		b.StartTimer()
		go func() { done <- store.Run(ctx) }()
		if err := store.Wait(ctx, s.ID); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		cancel()
		<-done
		if got, _ := j.Session(s.ID); got.Counts.Staged != int64(len(names)) {
			b.Fatalf("%d of %d objects are staged", got.Counts.Staged, len(names))
		}
		if err := store.Close(true); err != nil {
			b.Fatal(err)
		}
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.SetBytes(size)
	b.ReportMetric(float64(len(names))*float64(b.N)/b.Elapsed().Seconds(), "objects/s")
}

func chunks(names []ostree.Name, n int) func(func([]journal.Entry) bool) {
	return func(yield func([]journal.Entry) bool) {
		for len(names) > 0 {
			k := min(n, len(names))
			var entries []journal.Entry
			for _, name := range names[:k] {
				entries = append(entries, journal.Entry{Name: name, Status: journal.Missing})
			}
			if !yield(entries) {
				return
			}
			names = names[k:]
		}
	}
}

func benchPacks(b *testing.B) (packs [][]byte, names []ostree.Name, size int64) {
	b.Helper()
	repo := filepath.Join(b.TempDir(), "repo")
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	for _, args := range [][]string{
		{"ostree", "init", "--repo=" + repo, "--mode=archive"},
		{"ostree", "commit", "--repo=" + repo, "-b", "x", filepath.Join(strings.TrimSpace(string(goroot)), "src")},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	r, err := ostree.OpenRepo(repo)
	if err != nil {
		b.Fatal(err)
	}
	head, err := r.Ref("x")
	if err != nil {
		b.Fatal(err)
	}
	p := []byte(wire.PackMagic)
	err = r.Walk(b.Context(), []ostree.Checksum{head}, ostree.WalkOptions{}, func(n ostree.Name) error {
		o, err := r.Object(b.Context(), n)
		if err != nil || o.Size > wire.MaxPackPayload {
			return err
		}
		f, err := o.Open()
		if err != nil {
			return err
		}
		defer f.Close()
		object, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		names = append(names, n)
		size += int64(len(object))
		p = append(wire.AppendFrameHeader(p, n, o.Size), object...)
		if len(p) > wire.PackTarget {
			packs = append(packs, p)
			p = []byte(wire.PackMagic)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return append(packs, p), names, size
}
