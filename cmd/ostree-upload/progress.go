// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/lirios/ostree-upload/internal/page"
	"github.com/lirios/ostree-upload/internal/push"
)

// plainEvery is how often a push prints its progress if stderr is not a terminal.
const plainEvery = 10 * time.Second

// showProgress prints the progress of a push to stderr until stop is called: on a
// terminal in one line that changes, elsewhere in a new line now and then. All
// else for stderr has to go through the App that it returns meanwhile.
func showProgress(app *App, p *push.Progress) (shown *App, stop func()) {
	m := push.NewMeter(p)
	if f, ok := app.Stderr.(*os.File); ok && isTerminal(f) {
		return bar(app, f, m)
	}
	return app, lines(app.Stderr, func() string { return page.Text(m.Line(0)) }, plainEvery)
}

// isTerminal is true for any character device; mpb writes nothing to one that is
// not a terminal.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// lines writes a line at each interval.
func lines(to io.Writer, line func() string, every time.Duration) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintln(to, line())
			case <-done:
				return
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// bar keeps one line at the bottom of a terminal; what the App writes appears
// above it. The last column stays free: some terminals wrap when it is filled.
func bar(app *App, terminal *os.File, m *push.Meter) (shown *App, stop func()) {
	container := mpb.New(mpb.WithOutput(terminal), mpb.WithRefreshRate(200*time.Millisecond))
	line := container.New(0, mpb.NopStyle(), mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Any(func(s decor.Statistics) string { return page.Text(m.Line(max(1, s.AvailableWidth-1))) })))
	return newApp(app.Stdout, container, app.Level), func() { line.Abort(true); container.Wait() }
}
