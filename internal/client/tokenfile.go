// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"fmt"
	"os"

	"github.com/lirios/ostree-upload/internal/hint"
)

// ReadToken reads the file that holds a token.
func ReadToken(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", hint.Add(fmt.Errorf("read the token: %w", err), "put what `ostree-upload gentoken` printed into a file that this user can read, and name it")
	}
	return string(b), nil
}

// Renewal reads the token again from the file that it came from, which may have
// another by then; nil if it came from elsewhere.
func Renewal(file string) func() (string, error) {
	if file == "" {
		return nil
	}
	return func() (string, error) { return ReadToken(file) }
}
