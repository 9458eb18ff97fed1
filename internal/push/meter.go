// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/units"
)

// A Meter puts a push's progress into words. The rate is an average over the last
// window.
type Meter struct {
	progress *Progress

	mu      sync.Mutex
	samples []sample
}

// NewMeter returns the meter of a push.
func NewMeter(p *Progress) *Meter { return &Meter{progress: p} }

// A sample is how many bytes had been sent at a time.
type sample struct {
	at    time.Time
	bytes int64
}

// window is how far back the rate looks; samples are at least between apart.
const (
	window  = 30 * time.Second
	between = time.Second
)

// A words is a part of the line, and how soon it is left out where there is no room: that of
// the highest number first.
type words struct {
	text string
	rank int
}

// Line is like "uploading: 35 MB of 120 MB, 1,200 of 8,114 objects, 2,400 kB/s, 1m3s
// left, 2 retries", and no longer than width unless that is 0.
func (m *Meter) Line(width int) string {
	p, stage := m.progress, m.progress.Stage()
	parts := []words{{m.bytes(stage), 0}, {m.objects(stage), 2}}
	if stage == Uploading {
		rate, left := m.pace()
		parts = append(parts, words{rate, 3}, words{left, 1})
	}
	if n := p.Traffic.Retries.Load(); n > 0 {
		parts = append(parts, words{units.Count(n, "retry", "retries"), 4})
	}
	if note := p.note.Load(); note != nil && stage > Uploading {
		parts = append([]words{{*note, 0}}, parts...)
	}
	return fitted(stage.String()+": ", parts, width)
}

// fitted joins as many parts as there is room for, and cuts what is still too long.
func fitted(head string, parts []words, width int) string {
	for rank := 4; ; rank-- {
		var kept []string
		for _, p := range parts {
			if p.text != "" && p.rank <= rank {
				kept = append(kept, p.text)
			}
		}
		line := []rune(head + strings.Join(kept, ", "))
		if width <= 0 || len(line) <= width {
			return string(line)
		}
		if rank == 0 {
			return string(line[:width])
		}
	}
}

// objects is how many were found or, once uploads have begun, how many the server
// has of those that it lacked before the first run.
func (m *Meter) objects(stage Stage) string {
	p := m.progress
	there := p.There.Load()
	sent, all := there+p.Sent.Load(), there+p.Lacking.Load()
	switch {
	case stage == Walking:
		return units.Count(p.Walked.Load(), "object found", "objects found")
	case stage != Uploading:
		return units.Count(sent, "object sent", "objects sent")
	case p.Listed.Load():
		return fmt.Sprintf("%s of %s objects", units.Thousands(sent), units.Thousands(all))
	}
	return fmt.Sprintf("%s of %s objects or more", units.Thousands(sent), units.Thousands(all))
}

// bytes is how many the server has or are on their way, of how many.
func (m *Meter) bytes(stage Stage) string {
	p := m.progress
	done := p.DoneBytes()
	switch {
	case stage == Walking && done == 0:
		return ""
	case p.Saved() > 0:
		return fmt.Sprintf("sent %s of %s", units.Amount(done), units.Amount(p.ThereBytes.Load()+p.Offered.Load()))
	case stage != Uploading:
		return units.Amount(done)
	case p.Listed.Load():
		return fmt.Sprintf("%s of %s", units.Amount(done), units.Amount(p.TotalBytes()))
	}
	return fmt.Sprintf("%s of %s or more", units.Amount(done), units.Amount(p.TotalBytes()))
}

// pace is the rate and the time left, as far as they are known.
func (m *Meter) pace() (rate, left string) {
	p := m.progress
	perSecond := m.rate(p.Traffic.Acknowledged.Load() + p.Traffic.Underway())
	if perSecond <= 0 {
		return "", ""
	}
	if p.Listed.Load() {
		took := time.Duration(float64(p.TotalBytes()-p.DoneBytes()) / perSecond * float64(time.Second))
		left = took.Round(time.Second).String() + " left"
	}
	return units.Amount(int64(perSecond)) + "/s", left
}

// rate is the bytes per second of the window that ends now.
func (m *Meter) rate(bytes int64) float64 {
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
