// SPDX-License-Identifier: AGPL-3.0-or-later

// Command gotest runs `go test` with its arguments and prints one line for each
// package, what failed in full, and at the end which tests were skipped and why.
// It exits as `go test` does.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// An event is a line of `go test -json`; see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string // instead of Package, of a build
	Test       string
	Output     string
	Elapsed    float64
}

// A test is one of a package; without a name, it stands for the package itself.
type test struct{ pkg, name string }

// A report is what is known so far.
type report struct {
	out     io.Writer
	output  map[test]*strings.Builder // of those that have not passed
	skipped []string
}

func main() {
	cmd := exec.Command(cmp.Or(os.Getenv("GO"), "go"), append([]string{"test", "-json"}, os.Args[1:]...)...)
	cmd.Stderr = os.Stderr
	err := run(cmd, os.Stdout)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	}
}

// run runs cmd, which prints events, and reports them to out.
func run(cmd *exec.Cmd, out io.Writer) error {
	events, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	r := &report{out: out, output: map[test]*strings.Builder{}}
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break // the end; Wait tells whether it was a good one
		}
		var e event
		if json.Unmarshal(line, &e) != nil || e.Action == "" {
			out.Write(line) // not an event, and so for a person
			continue
		}
		r.add(e)
	}
	r.end()
	return cmd.Wait()
}

// add takes in one event.
func (r *report) add(e event) {
	t := test{e.Package, e.Test}
	switch e.Action {
	case "output":
		if r.output[t] == nil {
			r.output[t] = new(strings.Builder)
		}
		r.output[t].WriteString(e.Output)
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "pass", "skip":
		if e.Test == "" && e.Action == "pass" {
			fmt.Fprintf(r.out, "ok   %s %.1f s\n", e.Package, e.Elapsed)
		}
		if e.Test != "" && e.Action == "skip" {
			r.skipped = append(r.skipped, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(r.said(t))))
		}
		delete(r.output, t)
	case "fail":
		if e.Test == "" {
			r.failed(e.Package)
			return
		}
		fmt.Fprint(r.out, r.said(t))
		delete(r.output, t)
	}
}

// said is what a test has printed.
func (r *report) said(t test) string {
	if r.output[t] == nil {
		return ""
	}
	return r.output[t].String()
}

// failed prints the output of a package, and that of its tests that did not end: one
// of them may have taken the others down.
func (r *report) failed(pkg string) {
	var open []test
	for t := range r.output {
		if t.pkg == pkg {
			open = append(open, t)
		}
	}
	slices.SortFunc(open, func(a, b test) int { return cmp.Compare(a.name, b.name) })
	for _, t := range open {
		fmt.Fprint(r.out, r.said(t))
		delete(r.output, t)
	}
}

func (r *report) end() {
	if len(r.skipped) == 0 {
		fmt.Fprintln(r.out, "no test was skipped")
		return
	}
	slices.Sort(r.skipped)
	fmt.Fprintf(r.out, "%d skipped:\n  %s\n", len(r.skipped), strings.Join(r.skipped, "\n  "))
}

// reason is what a test said before it was skipped, in one line.
func reason(output string) string {
	var said []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- SKIP") {
			said = append(said, line)
		}
	}
	return cmp.Or(strings.Join(said, " "), "it does not say why")
}
