// SPDX-License-Identifier: AGPL-3.0-or-later

package program

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// What is kept of what a program says, of its beginning and again of its end.
const (
	mostBytes = 8 << 10
	mostLines = 20
	mostLine  = 500 // bytes of one line
)

// An excerpt keeps the beginning and the end of what is written to it.
type excerpt struct {
	head, tail []byte
	left       int64 // bytes between the two
}

// Write keeps what there is room for.
func (e *excerpt) Write(b []byte) (int, error) {
	first := min(len(b), mostBytes-len(e.head))
	e.head = append(e.head, b[:first]...)
	rest := b[first:]
	if over := len(rest) - mostBytes; over > 0 {
		e.left += int64(over)
		rest = rest[over:]
	}
	if over := len(e.tail) + len(rest) - mostBytes; over > 0 {
		e.left += int64(over)
		e.tail = slices.Delete(e.tail, 0, over)
	}
	e.tail = append(e.tail, rest...)
	return len(b), nil
}

// lines are the first and the last lines, each of a bounded length, with a word in
// between about what was left out.
func (e *excerpt) lines() []string {
	if e.left == 0 {
		return cutMiddle(split(slices.Concat(e.head, e.tail)))
	}
	// The line at each side of the gap is not whole.
	first, last := split(e.head), split(e.tail)
	first, last = first[:min(len(first), mostLines)], last[max(0, len(last)-mostLines):]
	return slices.Concat(first, []string{fmt.Sprintf("(more than %d bytes are left out)", e.left)}, last)
}

func split(b []byte) (lines []string) {
	for line := range strings.Lines(strings.ToValidUTF8(string(b), "?")) {
		if line = strings.TrimRight(line, " \t\r\n"); line == "" {
			continue
		}
		if len(line) > mostLine {
			line = strings.ToValidUTF8(line[:mostLine], "") + "…"
		}
		lines = append(lines, line)
	}
	return lines
}

func cutMiddle(lines []string) []string {
	over := len(lines) - 2*mostLines
	if over <= 0 {
		return lines
	}
	return slices.Concat(lines[:mostLines], []string{fmt.Sprintf("(%d lines are left out)", over)}, lines[mostLines+over:])
}

// A Capped takes a bounded number of bytes; more is an error, which ends the program that
// prints them.
type Capped struct {
	Most  int
	Bytes []byte
}

// Write takes b as a whole or not at all.
func (c *Capped) Write(b []byte) (int, error) {
	if len(c.Bytes)+len(b) > c.Most {
		return 0, fmt.Errorf("printed more than %d bytes", c.Most)
	}
	c.Bytes = append(c.Bytes, b...)
	return len(b), nil
}

// A taker passes bytes on and remembers why that failed.
type taker struct {
	to  io.Writer
	err error
}

func (t *taker) Write(b []byte) (n int, err error) {
	n, t.err = t.to.Write(b)
	return n, t.err
}
