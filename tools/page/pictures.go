// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/chrome"
)

// A photo is of one part of the page.
type photo struct {
	name string
	path func(context.Context) (string, error)
}

// inDocs are those that the documentation shows.
var inDocs = []string{"overview-1280-light.png", "session-1280-dark.png"}

// takePictures takes a picture of each part of the page, at each width, in both schemes.
func (h *host) takePictures(ctx context.Context, folder, docs string) (err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	browser, err := chrome.Start()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, browser.End()) }()
	tab, err := browser.Open()
	if err != nil {
		return err
	}
	defer tab.Close()
	if err := h.photograph(ctx, tab, folder, photo{"sign-in", at("/")}); err != nil {
		return err
	}
	if err := h.signIn(tab); err != nil {
		return err
	}
	for _, p := range h.photos() {
		if err := h.photograph(ctx, tab, folder, p); err != nil {
			return err
		}
	}
	if faults := tab.Faults(); len(faults) > 0 {
		return fmt.Errorf("the page has faults: %q", faults)
	}
	return copyPictures(folder, docs)
}

// photos are those of who has signed in.
func (h *host) photos() []photo {
	return []photo{
		{"overview", at("/")}, {"sessions", at("/page/sessions")}, {"refs", at("/page/refs")}, {"tokens", at("/page/tokens")},
		{"ref", at("/page/ref?name=os/x86_64/testing")},
		{"session", h.session(wire.Open, "", func(s wire.Session) bool {
			return len(s.Uploads) > 0 && s.Objects.Missing < s.Objects.Known*4/5 && s.Objects.Missing > s.Objects.Known/3
		})},
		{"problems", h.session(wire.Open, "", func(s wire.Session) bool { return s.Objects.Rejected > 0 })},
		{"held", h.session(wire.Held, "", func(s wire.Session) bool { return s.Token == "ci-os" })},
		{"publish", h.session(wire.Held, "/publish", func(s wire.Session) bool { return s.Token == "ci-os" })},
		{"failed", h.session(wire.Failed, "", func(wire.Session) bool { return true })},
		{"rejected", h.session(wire.Rejected, "", func(wire.Session) bool { return true })},
	}
}

func at(path string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return path, nil }
}

// session finds a session of a kind, now or as soon as there is one.
func (h *host) session(state, below string, is func(wire.Session) bool) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		c, err := h.as("operator")
		if err != nil {
			return "", err
		}
		defer c.Close()
		for ; ; time.Sleep(time.Second / 4) {
			list, err := c.Sessions(ctx, state)
			for i := 0; i < len(list) && err == nil; i++ {
				var whole wire.Session
				if whole, err = c.Session(ctx, list[i].ID, 0); err == nil && is(whole) {
					return "/page/sessions/" + whole.ID + below, nil
				}
			}
			if err != nil {
				return "", err
			}
		}
	}
}

func (h *host) signIn(tab *chrome.Tab) error {
	if err := tab.Go(h.address + "/"); err != nil {
		return err
	}
	if err := tab.Type("#token", h.tokens["operator"]+"\r"); err != nil {
		return err
	}
	return tab.Await(`document.querySelector("#under-way")`)
}

// photograph takes the pictures of one part.
func (h *host) photograph(ctx context.Context, tab *chrome.Tab, folder string, p photo) error {
	for _, width := range []int{360, 1280, 2560} {
		for _, scheme := range []string{"light", "dark"} {
			if err := tab.Look(width, width*5/8, scheme); err != nil {
				return err
			}
			path, err := p.path(ctx)
			if err != nil {
				return err
			}
			if err := h.photographOne(tab, path, filepath.Join(folder, fmt.Sprintf("%s-%d-%s.png", p.name, width, scheme))); err != nil {
				return err
			}
		}
	}
	return nil
}

// photographOne takes a picture once the page is current, in which all can be read.
func (h *host) photographOne(tab *chrome.Tab, path, file string) error {
	if err := tab.Go(h.address + path); err != nil {
		return err
	}
	if err := tab.Await(`!document.querySelector("#state[data-moves]:not(.live)")`); err != nil {
		return err
	}
	if err := tab.Picture(file); err != nil {
		return err
	}
	cut, err := tab.CutOff()
	if err == nil && len(cut) > 0 {
		err = fmt.Errorf("%s: cut off or overlapping: %q", file, cut)
	}
	return err
}

// copyPictures makes those of the documentation: the upper part, in 256 colours.
func copyPictures(from, to string) error {
	if to == "" {
		return nil
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, name := range inDocs {
		whole, err := readPNG(filepath.Join(from, name))
		if err != nil {
			return err
		}
		area := whole.Bounds().Intersect(image.Rect(0, 0, 1280, 1000))
		small := image.NewPaletted(area, colours(whole, area))
		draw.Draw(small, area, whole, area.Min, draw.Src)
		if err := writePNG(filepath.Join(to, name), small); err != nil {
			return err
		}
	}
	return nil
}

// colours are the 256 that an area has most of.
func colours(in image.Image, area image.Rectangle) color.Palette {
	count := map[color.Color]int{}
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			count[in.At(x, y)]++
		}
	}
	all := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int { return count[b] - count[a] })
	return all[:min(len(all), 256)]
}

func readPNG(file string) (image.Image, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return png.Decode(f)
}

func writePNG(file string, i image.Image) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	return errors.Join(encoder.Encode(f, i), f.Close())
}
