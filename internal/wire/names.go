// SPDX-License-Identifier: AGPL-3.0-or-later

package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/lirios/ostree-upload/internal/ostree"
)

// FormatNames is the text form of an object list: one name a line.
func FormatNames(names []ostree.Name) []byte {
	b := make([]byte, 0, len(names)*72)
	for _, n := range names {
		b = append(b, n.String()...)
		b = append(b, '\n')
	}
	return b
}

// ErrTooManyNames says that an object list is longer than was asked for.
var ErrTooManyNames = errors.New("too many object names")

// ParseNames reads an object list of at most max names. Empty lines and a
// missing last newline are allowed; anything else that is no name is an error
// that gives the line.
func ParseNames(r io.Reader, max int) ([]ostree.Name, error) {
	var names []ostree.Name
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 256), 256)
	for line := 1; lines.Scan(); line++ {
		if len(lines.Bytes()) == 0 {
			continue
		}
		n, err := ostree.ParseName(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if len(names) == max {
			return nil, fmt.Errorf("%w: more than %d", ErrTooManyNames, max)
		}
		names = append(names, n)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d: too long for an object name", len(names)+1)
	} else if err != nil {
		return nil, fmt.Errorf("read object names: %w", err)
	}
	return names, nil
}
