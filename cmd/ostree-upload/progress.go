// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/lirios/ostree-upload/internal/push"
)

// plainEvery is how often a push prints its progress if stderr is not a terminal.
const plainEvery = 10 * time.Second

// showProgress prints the progress of a push to stderr until stop is called: on a
// terminal in one line that changes, elsewhere in a new line now and then. All
// else for stderr has to go through the App that it returns meanwhile.
func showProgress(app *App, p *push.Progress) (shown *App, stop func()) {
	m := &meter{progress: p}
	if f, ok := app.Stderr.(*os.File); ok && isTerminal(f) {
		return bar(app, f, m)
	}
	return app, lines(app.Stderr, m, plainEvery)
}

// isTerminal is true for any character device; mpb writes nothing to one that is
// not a terminal.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// lines writes a line at each interval.
func lines(to io.Writer, m *meter, every time.Duration) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintln(to, m.line())
			case <-done:
				return
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// bar keeps one line at the bottom of a terminal; what the App writes appears
// above it.
func bar(app *App, terminal *os.File, m *meter) (shown *App, stop func()) {
	container := mpb.New(mpb.WithOutput(terminal), mpb.WithRefreshRate(200*time.Millisecond))
	line := container.New(0, mpb.NopStyle(), mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return m.line() })))
	verbose := app.Log.Enabled(context.Background(), slog.LevelDebug)
	shown = &App{Stdout: app.Stdout, Stderr: container, Log: logger(container, "push", verbose)}
	return shown, func() { line.Abort(true); container.Wait() }
}

// A meter puts a push's progress into words. The rate is an average over the last
// window, since the server acknowledges whole chunks.
type meter struct {
	progress *push.Progress

	mu      sync.Mutex
	samples []sample
}

// A sample is how many bytes were acknowledged at a time.
type sample struct {
	at    time.Time
	bytes int64
}

// window is how far back the rate looks; samples are at least between apart.
const (
	window  = 30 * time.Second
	between = time.Second
)

// line is like "uploading: 1,200 of 8,114 objects, 35 MB, 2,400 kB/s, 1m3s left, 2 retries".
func (m *meter) line() string {
	p, stage := m.progress, m.progress.Stage()
	parts := []string{objects(p, stage)}
	if bytes := p.Traffic.Acknowledged.Load(); bytes > 0 {
		parts = append(parts, amount(bytes))
	}
	if stage == push.Uploading {
		parts = append(parts, m.pace(p)...)
	}
	if n := p.Traffic.Retries.Load(); n > 0 {
		parts = append(parts, count(n, "retry", "retries"))
	}
	return stage.String() + ": " + strings.Join(parts, ", ")
}

// objects is how many were found or, once uploads have begun, how many were sent.
func objects(p *push.Progress, stage push.Stage) string {
	sent, lacking := p.Sent.Load(), p.Lacking.Load()
	switch {
	case stage == push.Walking:
		return count(p.Walked.Load(), "object found", "objects found")
	case stage != push.Uploading:
		return count(sent, "object sent", "objects sent")
	case p.Listed.Load():
		return fmt.Sprintf("%s of %s objects", thousands(sent), thousands(lacking))
	}
	return fmt.Sprintf("%s of %s objects or more", thousands(sent), thousands(lacking))
}

func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + many
}

// pace is the rate and the time left, as far as they are known.
func (m *meter) pace(p *push.Progress) []string {
	rate := m.rate(p.Traffic.Acknowledged.Load())
	if rate <= 0 {
		return nil
	}
	parts := []string{amount(int64(rate)) + "/s"}
	if left := p.LeftBytes(); left >= 0 {
		took := time.Duration(float64(left) / rate * float64(time.Second))
		parts = append(parts, took.Round(time.Second).String()+" left")
	}
	return parts
}

// rate is the bytes per second of the window that ends now.
func (m *meter) rate(bytes int64) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := sample{time.Now(), bytes}
	if n := len(m.samples); n == 0 || now.at.Sub(m.samples[n-1].at) >= between {
		m.samples = append(m.samples, now)
	}
	for len(m.samples) > 1 && now.at.Sub(m.samples[0].at) > window {
		m.samples = m.samples[1:]
	}
	first := m.samples[0]
	took := now.at.Sub(first.at).Seconds()
	if took == 0 {
		return 0
	}
	return float64(now.bytes-first.bytes) / took
}
