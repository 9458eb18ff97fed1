// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"io"
	"slices"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/page"
	"github.com/lirios/ostree-upload/internal/push"
)

// A counter is stdout, and knows whether something was written there.
type counter struct {
	io.Writer
	n int
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.n += n
	return n, err
}

// failure is the document of a command that failed before it had one to print.
type failure struct {
	Error     string `json:"error"`
	ErrorCode string `json:"error-code"`
	Hint      string `json:"hint,omitempty"`
	Request   string `json:"request,omitempty"`
	ExitCode  int    `json:"exit-code"`
}

// failed prints the document of an error, if one is wanted and none is there.
func (c *counter) failed(args []string, err error) {
	if err == nil || c.n > 0 || !slices.Contains(args, "--json") && !slices.Contains(args, "--json=true") {
		return
	}
	text, failed := page.JSON(failure{err.Error(), push.Code(err), hint.Of(err), requestOf(err), exitCode(err)})
	if failed == nil {
		_, _ = io.WriteString(c, text) // the error itself is told on stderr
	}
}
