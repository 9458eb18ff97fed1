// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/push"
)

// badUsage is a flag that parses, but means nothing: exit code 2.
type badUsage struct{ error }

func (e badUsage) ExitCode() int { return push.ExitUsage }
func (e badUsage) Unwrap() error { return e.error }

func usage(format string, args ...any) error {
	return badUsage{fmt.Errorf(format, args...)}
}

// errNoAddress is what an empty OSTREE_UPLOAD_ADDRESS means, in a script most likely
// whose variable was not set: the default would be another server than it meant.
var errNoAddress = badUsage{hint.Add(errors.New("the address of the server is empty"), "give it in OSTREE_UPLOAD_ADDRESS or by --address, such as https://updates.example.org")}

// tokenOf is the token of a flag, or of the environment as kong puts it there, or
// of a file.
func tokenOf(flag, file string) (string, error) {
	if file == "" {
		return flag, nil
	}
	if flag != "" && flag != os.Getenv("OSTREE_UPLOAD_TOKEN") {
		if file == os.Getenv("OSTREE_UPLOAD_TOKEN_FILE") {
			return flag, nil
		}
		return "", usage("--token and --token-file do not go together")
	}
	return readToken(file)
}

func readToken(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", hint.Add(fmt.Errorf("read the token: %w", err), "put what `ostree-upload gentoken` printed into a file that this user can read, and name it")
	}
	return string(b), nil
}

// renewal reads the token again from the file that it came from, which may have
// another by then; nil if it came from elsewhere.
func renewal(file string) func() (string, error) {
	if file == "" {
		return nil
	}
	return func() (string, error) { return readToken(file) }
}
