// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/lirios/ostree-upload/internal/hint"
)

// A TokenSource gets a token, which may be another one each time. It is never empty.
type TokenSource func(ctx context.Context) (string, error)

// TokenFile gets the token that a file holds.
func TokenFile(path string) TokenSource {
	return func(context.Context) (string, error) {
		b, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(b)) == "" {
			err = fmt.Errorf("file %s is empty", path)
		}
		if err != nil {
			return "", hint.Add(fmt.Errorf("read the token: %w", err), "put what `ostree-upload gentoken` printed into a file that this user can read, and name it")
		}
		return string(b), nil
	}
}
