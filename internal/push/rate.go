// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import "github.com/lirios/ostree-upload/internal/wire"

// A push with a low Server.LimitRate keeps within the times that the server gives:
// a minute for the whole body of a request that is no upload, and for the silence in
// one. Proxies often bound a whole request as well.
const (
	uploadRate   = 4 << 10 // bytes per second that each upload has at least, if there are several
	secondsChunk = 60      // that one request of an upload takes
	secondsBody  = 20      // that another body takes, if it is alone
	perName      = 40      // bytes of an object's name, compressed
)

// fitRate bounds what is under way at once by the rate.
func (o *Options) fitRate() {
	rate := o.Server.LimitRate
	if rate == 0 {
		return
	}
	o.Jobs = int(min(int64(o.Jobs), max(1, rate/uploadRate)))
	o.ChunkSize = min(o.ChunkSize, max(64<<10, rate/int64(o.Jobs)*secondsChunk))
}

// mostBody is how many bytes a request may have that is no upload.
func (o *Options) mostBody() int {
	if rate := o.Server.LimitRate; rate != 0 {
		return int(min(rate*secondsBody, wire.MaxBody))
	}
	return wire.MaxBody
}

// mostNames is how many object names a request may have. So many requests as there are
// negotiations share the rate, with uploads beside them.
func (o *Options) mostNames() int {
	if o.Server.LimitRate == 0 {
		return largestBatch
	}
	return min(largestBatch, o.mostBody()/(negotiations+1)/perName)
}
