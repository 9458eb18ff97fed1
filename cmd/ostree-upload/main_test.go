// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain puts the real main on the PATH, as ostree-upload: scripts and Go
// tests run it as people do.
func TestMain(m *testing.M) {
	if os.Getenv("GORACE") == "" {
		// For `make race`: no second of waiting at each exit, and an exit code that
		// says nothing of races, as dataRaces does.
		os.Setenv("GORACE", "atexit_sleep_ms=10 exitcode=0")
	}
	testscript.Main(tidy{m}, map[string]func(){"ostree-upload": main})
}

// tidy removes what tests share when all have run.
type tidy struct{ *testing.M }

func (m tidy) Run() int {
	code := m.M.Run()
	for _, folder := range []string{bigFolder, faultyFolder} {
		if folder != "" {
			os.RemoveAll(folder)
		}
	}
	return code
}
