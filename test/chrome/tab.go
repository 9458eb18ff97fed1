// SPDX-License-Identifier: AGPL-3.0-or-later

package chrome

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// look is how often a tab looks whether something is so.
const look = 20 * time.Millisecond

// A Tab shows a page.
type Tab struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	faults []string
	lost   []string
}

// Open opens an empty tab.
func (b *Browser) Open() (*Tab, error) {
	t := new(Tab)
	t.ctx, t.cancel = chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext(), chromedp.WithListener(t.hear))
	if err := chromedp.Do(t.ctx); err != nil {
		t.cancel()
		return nil, fmt.Errorf("open a tab: %w", err)
	}
	return t, nil
}

// Close closes the tab.
func (t *Tab) Close() { t.cancel() }

// hear notes what the page complains of.
func (t *Tab) hear(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		t.note(&t.faults, fmt.Sprintf("exception: %s %s:%d", e.ExceptionDetails.Text, e.ExceptionDetails.URL, e.ExceptionDetails.LineNumber+1)+
			words([]*runtime.RemoteObject{e.ExceptionDetails.Exception}))
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" || e.Type == "warning" || e.Type == "assert" {
			t.note(&t.faults, fmt.Sprintf("console.%s:%s", e.Type, words(e.Args)))
		}
	case *log.EventEntryAdded:
		if e.Entry.Source == log.EntrySourceNetwork {
			t.note(&t.lost, e.Entry.URL+": "+e.Entry.Text)
		} else if e.Entry.Level != log.EntryLevelVerbose && e.Entry.Level != log.EntryLevelInfo {
			t.note(&t.faults, fmt.Sprintf("%s %s: %s %s", e.Entry.Source, e.Entry.Level, e.Entry.Text, e.Entry.URL))
		}
	}
}

func (t *Tab) note(list *[]string, fault string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*list = append(*list, fault)
}

func words(values []*runtime.RemoteObject) (text string) {
	for _, v := range values {
		if v != nil {
			text += " " + cmp.Or(v.Description, string(v.Value))
		}
	}
	return text
}

// Faults are what the page has complained of so far, requests apart.
func (t *Tab) Faults() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.faults...)
}

// Lost are the requests that failed, or whose answer was an error.
func (t *Tab) Lost() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.lost...)
}

// Do does something in the tab.
func (t *Tab) Do(actions ...chromedp.Action[chromedp.Void]) error {
	ctx, stop := context.WithTimeout(t.ctx, patience)
	defer stop()
	return chromedp.Do(ctx, actions...)
}

// Go goes to an address and waits until it is loaded.
func (t *Tab) Go(address string) error {
	if err := t.Do(chromedp.Navigate(address)); err != nil {
		return fmt.Errorf("go to %s: %w", address, err)
	}
	return nil
}

// Ask evaluates an expression in the page. No Content-Security-Policy is asked.
func Ask[T any](t *Tab, expression string) (T, error) {
	ctx, stop := context.WithTimeout(t.ctx, patience)
	defer stop()
	answer, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		return answer, fmt.Errorf("evaluate %s: %w", expression, err)
	}
	return answer, nil
}

// Await waits until an expression is true. While a page is being left it is not.
func (t *Tab) Await(expression string) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(look) {
		is, err := Ask[bool](t, "Boolean("+expression+")")
		if err == nil && is {
			return nil
		}
		if time.Now().After(deadline) {
			text, _ := Ask[string](t, "location.href + '\\n' + document.body.innerText") // nothing more is known
			return fmt.Errorf("after %v it is still not so that %s (%v); the page is %s", patience, expression, err, text)
		}
	}
}

// Type clicks on a field and types.
func (t *Tab) Type(selector, text string) error {
	return t.Do(chromedp.Click(chromedp.CSS(selector)), chromedp.KeyEvent(text))
}

// Look sets the size of the window, in CSS pixels, and the scheme, "dark" or "light".
// Nothing that moves by itself does: pictures are of a page at rest.
func (t *Tab) Look(width, height int, scheme string) error {
	return t.Do(
		chromedp.EmulateViewport(int64(width), int64(height)),
		send(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}}))
}

// PassPolicy has the tab take no Content-Security-Policy from now on, for scripts that
// look at a page and are not its own.
func (t *Tab) PassPolicy() error {
	return t.Do(send(page.SetBypassCSP, page.SetBypassCSPParams{Enabled: true}))
}

// send is an action of the DevTools protocol.
func send[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, command, params)
		return err
	})
}

// Picture writes the whole page, below the window too, to a PNG file.
func (t *Tab) Picture(file string) error {
	ctx, stop := context.WithTimeout(t.ctx, patience)
	defer stop()
	b, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		return fmt.Errorf("take a picture: %w", err)
	}
	return os.WriteFile(file, b, 0o644)
}
