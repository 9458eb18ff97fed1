// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"bytes"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/site"
)

// On a terminal the line is there while the push goes on, and gone at its end;
// results and messages stand as if there had been none.
func TestProgressOnTerminal(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("script"); err != nil {
		t.Skip("needs script(1) of util-linux")
	}
	s, b := site.New(t), site.Small(t, "os/terminal", "terminal")
	l := s.Link()
	l.Set(longLink)
	cmd := s.Command()
	cmd.Path, cmd.Err = "/bin/sh", nil
	cmd.Args = []string{"sh", "-c", `exec script -qec "sh -c 'stty cols 120 rows 30; exec ostree-upload push --repo ` + b.Repo + `'" typescript`}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	site.Published(t, b, s.Prod)
	text := out.String()
	if !regexp.MustCompile(`(walking|uploading|verifying|publishing): `).MatchString(text) {
		t.Errorf("there is no progress in %q", text)
	}
	if !strings.Contains(text, " opened\r\n") {
		t.Errorf("it does not name its session in %q", text)
	}
	_, last, _ := strings.Cut(text, "published os/terminal")
	if last == "" || strings.Contains(last, ": ") {
		t.Errorf("the result is not the last in %q", text)
	}
}
