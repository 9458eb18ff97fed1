// SPDX-License-Identifier: AGPL-3.0-or-later

package server_test

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// All that becomes of works stands in the log, with the keys that docs/operating.md
// lists: one whose program is not there is named at the start, one is done, fails, is
// dropped, or runs when the server stops.
func TestLogOfWorks(t *testing.T) {
	dir := t.TempDir()
	build, began, log := filepath.Join(dir, "build"), filepath.Join(dir, "began"), newEventLog()
	commit := ts.Commit(t, build, "main", "one", 3)
	ci, made := token.Generate(token.Options{Name: "ci"})
	var settings atomic.Pointer[config.Config]
	configure := func(after string) {
		c, err := config.Parse([]byte("limits: {min-free-space: 0}\nafter:\n" + after))
		must.OK(t, err)
		c.Tokens = []token.Token{made}
		settings.Store(c)
	}
	configure("- command: [/not/there]\n- command: [echo, told]\n")
	address, stop := log.serve(t, filepath.Join(dir, "prod"), settings.Load)
	c := ts.NewClient(t, address, ci)
	push := func(ref string) { c.Push(build, wire.Ref{Ref: ref, New: commit.String()}) }
	push("x")
	log.wait("done what was to follow a publish")
	configure("- command: [sh, -c, 'touch " + began + "; exec sleep 1000']\n  refs: [y]\n")
	push("y")
	log.wait("a work that was to follow a publish is not done: the configuration does not have it any more")
	must.Wait(t, "the program runs", func() bool { _, err := os.Stat(began); return err == nil })
	stop()
	log.matches(t, documentedEvents(t))
	for msg, work := range map[string]string{
		"a work that is to follow each publish cannot be done":                                         "command there",
		"what is to follow a publish failed; it will be tried again":                                   "command there",
		"a work that was to follow a publish is not done: the configuration does not have it any more": "command there",
		"done what was to follow a publish":                                                            "command echo",
		"a work says":                                                                                  "command echo",
		"stopped what is to follow a publish; the next start does it again":                            "command sh",
	} {
		if e := log.wait(msg); e["work"] != work {
			t.Errorf("%v, want it of %s", e, work)
		}
	}
	if said := log.wait("a work says")["line"]; said != "told" {
		t.Errorf("a work says %v", said)
	}
}
