// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"context"
	"io"
	"os"
)

// A file ends its reads with a context: one of many gigabytes takes minutes.
type file struct {
	ctx               context.Context
	io.ReadSeekCloser // not an *os.File, whose WriteTo would bypass Read
}

func openFile(ctx context.Context, path string) (*file, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &file{ctx, f}, nil
}

func (f *file) Read(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	return f.ReadSeekCloser.Read(p)
}
