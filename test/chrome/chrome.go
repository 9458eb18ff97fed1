// SPDX-License-Identifier: AGPL-3.0-or-later

// Package chrome drives a real Chromium without a window. Only tests and tools import it.
//
//   - A Browser and all that it started end with End, or with this process.
//   - Each Tab has cookies and storage of its own.
//   - What a page complains of is kept: exceptions that nothing caught, errors on the
//     console, and what the Content-Security-Policy refused.
//
// Several goroutines may open tabs; a tab belongs to one of them.
package chrome

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/chromedp/chromedp"
)

// patience is how long a tab waits for what has to come. It decides nothing: what takes
// so long has failed.
const patience = 2 * time.Minute

// ErrNone says that this machine has no Chromium.
var ErrNone = errors.New("chromium is not installed")

// A Browser is a running Chromium.
type Browser struct {
	ctx    context.Context
	cancel context.CancelFunc
	folder string
}

// Start starts a Chromium.
func Start() (*Browser, error) {
	program, err := exec.LookPath("chromium")
	if err != nil {
		return nil, ErrNone
	}
	folder, err := os.MkdirTemp("", "chromium")
	if err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program),
		chromedp.UserDataDir(folder),
		chromedp.WSURLReadTimeout(patience),
		chromedp.Flag("disable-gpu", true),
		// Chromium has no sandbox for root, and in containers lacks the right to make
		// one; it sees no page but those of the tests.
		chromedp.NoSandbox,
	)
	allocated, free := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocated)
	b := &Browser{ctx, func() { cancel(); free() }, folder}
	if err := chromedp.Do(ctx); err != nil { // starts it
		return nil, errors.Join(fmt.Errorf("start chromium: %w", err), b.End())
	}
	return b, nil
}

// End ends the browser with all of its tabs and processes.
func (b *Browser) End() error {
	ctx, stop := context.WithTimeout(b.ctx, patience)
	defer stop()
	_ = chromedp.Cancel(ctx) // fails where it has ended; else it is killed next
	b.cancel()
	chromedp.FromContext(b.ctx).Allocator.Wait()
	return os.RemoveAll(b.folder)
}
