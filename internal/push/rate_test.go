// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"testing"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/wire"
)

// At each rate there are no more uploads, and no larger requests, than the server waits
// for; without one nothing changes.
func TestFitRate(t *testing.T) {
	for _, c := range []struct {
		rate        int64
		jobs        int // asked for
		wantJobs    int
		chunk       int64
		body, names int
	}{
		{0, 64, 64, DefaultChunk, wire.MaxBody, largestBatch},
		{1000, 64, 1, 64 << 10, 20_000, 125},
		{10_000, 4, 2, 300_000, 200_000, 1250},
		{100_000, 4, 4, 1_500_000, 2_000_000, 12_500},
		{100_000, 64, 24, 249_960, 2_000_000, 12_500},
		{2_000_000, 4, 4, DefaultChunk, wire.MaxBody, wire.MaxBody / 160},
		{2_000_000, 1, 1, DefaultChunk, wire.MaxBody, wire.MaxBody / 160},
	} {
		opt := Options{Jobs: c.jobs, Server: client.Options{LimitRate: c.rate}}
		opt.fill()
		if opt.Jobs != c.wantJobs || opt.ChunkSize != c.chunk || opt.mostBody() != c.body || opt.mostNames() != c.names {
			t.Errorf("%+v: %d jobs, chunk %d, body %d, names %d", c, opt.Jobs, opt.ChunkSize, opt.mostBody(), opt.mostNames())
		}
		if rate := c.rate; rate > 0 {
			if perUpload := rate / int64(opt.Jobs); opt.Jobs > 1 && perUpload < uploadRate || opt.ChunkSize > 64<<10 && opt.ChunkSize/perUpload > secondsChunk {
				t.Errorf("%+v: %d bytes a second for each upload", c, perUpload)
			}
		}
	}
}
