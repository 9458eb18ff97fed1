// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// What go-tus leaves behind holds no body any more.
func TestDetachedReaderLetsGo(t *testing.T) {
	d := &detachable{body: strings.NewReader("bytes")}
	d.detach()
	if _, err := d.Read(make([]byte, 1)); !errors.Is(err, errDetached) {
		t.Errorf("read: %v", err)
	}
	if _, err := d.Seek(0, io.SeekStart); !errors.Is(err, errDetached) {
		t.Errorf("seek: %v", err)
	}
	if d.body != nil {
		t.Error("the body is still held")
	}
}
