// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lirios/ostree-upload/test/store"
)

// A report is all that was measured; as JSON it is the file of a run.
type report struct {
	Machine string    `json:"machine"`
	Started time.Time `json:"started"`
	Parts   []*result `json:"parts"`
}

// A result is that of one part.
type result struct {
	Name       string      `json:"name"`
	About      string      `json:"about"`
	Contenders []*standing `json:"contenders"`
}

// A standing is what one contender did.
type standing struct {
	Name   string  `json:"name"`
	Trials []trial `json:"trials"`
}

func (r *report) add(p part, contenders []contender) *result {
	result := &result{Name: p.name, About: p.about}
	for _, c := range contenders {
		result.Contenders = append(result.Contenders, &standing{Name: c.name})
	}
	r.Parts = append(r.Parts, result)
	return result
}

func (r *report) write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// median is that of one figure of all trials.
func (s *standing) median(figure func(trial) float64) float64 {
	var all []float64
	for _, t := range s.Trials {
		all = append(all, figure(t))
	}
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

// most is the largest of one figure of all trials.
func (s *standing) most(figure func(trial) int64) int64 {
	var most int64
	for _, t := range s.Trials {
		most = max(most, figure(t))
	}
	return most
}

func seconds(t trial) float64 { return t.Seconds }

// print writes the part's table: medians, and each contender's time as that of
// the first.
func (r *result) print(to io.Writer) {
	fmt.Fprintf(to, "\n%s: %s\n\n", r.Name, r.About)
	t := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  \tmedian\tfastest\tslowest\tto disk\twith sync\tpush is\t")
	push := r.Contenders[0].median(seconds)
	for _, c := range r.Contenders {
		times := make([]float64, len(c.Trials))
		for i, trial := range c.Trials {
			times[i] = trial.Seconds
		}
		median := c.median(seconds)
		fmt.Fprintf(t, "  %s\t%.2f s\t%.2f s\t%.2f s\t+%.2f s\t%.2f s\t%.2f x\t%s\n", c.Name, median, slices.Min(times), slices.Max(times),
			c.median(func(t trial) float64 { return t.Sync }), c.median(func(t trial) float64 { return t.Seconds + t.Sync }), push/median, strings.Join(c.notes(), ", "))
	}
	t.Flush()
	fmt.Fprintln(to)
}

// notes are what only some turns tell.
func (c *standing) notes() []string {
	var notes []string
	if f := c.median(func(t trial) float64 { return t.Finalize }); f > 0 {
		notes = append(notes, fmt.Sprintf("finalize %.2f s", f))
	}
	if client := c.most(func(t trial) int64 { return t.Client }); client > 0 {
		server := c.most(func(t trial) int64 { return t.Server })
		notes = append(notes, fmt.Sprintf("memory %d + %d MiB", client>>20, server>>20))
	}
	if slowdown := c.median(func(t trial) float64 { return t.Slowdown }); slowdown > 0 {
		notes = append(notes, fmt.Sprintf("%.2f x the time alone", slowdown))
	}
	if use := c.median(func(t trial) float64 { return t.Use }); use > 0 {
		notes = append(notes, fmt.Sprintf("%.1f%% of the link is payload", 100*use))
	}
	if delivered := c.most(func(t trial) int64 { return t.Delivered }); delivered > 0 {
		payload := c.most(func(t trial) int64 { return t.Payload })
		notes = append(notes, fmt.Sprintf("%.1f MB delivered for %.1f (%.4f x)", float64(delivered)/1e6, float64(payload)/1e6, float64(delivered)/float64(payload)))
	}
	if requests := c.Trials[0].Requests; requests != nil {
		notes = append(notes, store.Told(requests))
	}
	if retries := c.most(func(t trial) int64 { return t.Retries }); retries > 0 {
		notes = append(notes, fmt.Sprintf("%d retries", retries))
	}
	return notes
}

// machine says on what this runs.
func machine() string {
	model, memory := "unknown processor", "?"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			memory = f[1]
		}
	}
	return fmt.Sprintf("%d x %s, %s kB of memory", runtime.NumCPU(), model, memory)
}
