// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"bytes"
	"errors"
	"io"
	"testing"

	build "github.com/lirios/ostree-upload/test/objects"
)

// A step that wants to stop ends a verification, whether it reads, inflates from
// memory or inflates to nothing, and the object is not called bad. Steps that go on
// change nothing.
func TestStep(t *testing.T) {
	f := build.SoundFile("")
	f.Size, f.Deflated = 64<<20, build.DeflateZeros(64)
	empty := build.SoundFile("")
	empty.Size, empty.Deflated = 1, append(bytes.Repeat([]byte{0, 0, 0, 0xff, 0xff}, 1<<18), 3, 0) // blocks of nothing
	n := Name{Type: File}
	for name, r := range map[string]func() io.Reader{
		"read":      func() io.Reader { return io.MultiReader(bytes.NewReader(f.Object().Bytes)) },
		"in memory": func() io.Reader { return bytes.NewReader(f.Object().Bytes) },
		"nothing":   func() io.Reader { return io.MultiReader(bytes.NewReader(empty.Object().Bytes)) },
	} {
		t.Run(name, func(t *testing.T) {
			v, enough := NewVerifier(0), errors.New("enough")
			steps := 0
			v.Step(func() error {
				if steps++; steps == 10 {
					return enough
				}
				return nil
			})
			if _, err := v.Verify(n, r()); !errors.Is(err, enough) || steps != 10 {
				t.Errorf("after %d steps: %v", steps, err)
			}
			var bad *BadObjectError
			if _, err := v.Verify(n, r()); !errors.As(err, &bad) {
				t.Errorf("verified to the end: %v", err)
			}
		})
	}
}
