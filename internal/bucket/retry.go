// SPDX-License-Identifier: AGPL-3.0-or-later

package bucket

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
)

// tries is how often a call is tried. The SDK repeats requests by itself, so a write may
// fail on its condition because of what an earlier try of it wrote: unsure remembers that
// there was one whose effect is not known.
type tries struct {
	aws.RetryerV2
	conflicts bool // are tried again as well
	unsure    bool
}

// tries begins those of one call.
func (b *Bucket) tries() *tries {
	return &tries{conflicts: true, RetryerV2: retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts, o.MaxBackoff = b.cfg.Tries, b.cfg.Backoff
		// The SDK's limit would count what one call alone may repeat; a store that is
		// slow for all of them is left alone by the backoff of each.
		o.RateLimiter = ratelimit.None
	})}
}

// use is the option of a request by which it is tried as t says.
func (t *tries) use(o *s3.Options) { o.Retryer = t }

// IsErrorRetryable is asked after each try that failed.
func (t *tries) IsErrorRetryable(err error) bool {
	if isConflict(err) {
		return t.conflicts
	}
	if !t.RetryerV2.IsErrorRetryable(err) && !isTorn(err) {
		return false
	}
	if statusOf(err) == 0 || statusOf(err) >= http.StatusInternalServerError || isTorn(err) {
		t.unsure = true
	}
	return true
}

// isConflict tells that another write of this key was under way: S3's documentation says
// to send this one again. A condition that does not hold is answered with 412 instead.
func isConflict(err error) bool {
	return statusOf(err) == http.StatusConflict && slices.Contains(conflicts, codeOf(err))
}

// Conflict is what the SDK calls an answer without a body, as that to HeadObject is.
var conflicts = []string{"ConditionalRequestConflict", "OperationAborted", "Conflict"}

// isTorn tells of an answer that did not come whole.
func isTorn(err error) bool {
	var undecoded *smithy.DeserializationError
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, errTorn) ||
		errors.As(err, &undecoded)
}

var errTorn = errors.New("the answer was cut off")

// watch sees the answer to each try: it refuses those that lack what each answer has,
// which the SDK takes for answers about nothing, and counts them.
func (b *Bucket) watch(stack *middleware.Stack) error {
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("watch", func(
		ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler,
	) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		if err == nil && isEmpty(out.Result) {
			err = errTorn
		}
		b.cfg.Count(awsmiddleware.GetOperationName(ctx), outcome(err))
		return out, metadata, err
	}), middleware.Before)
}

func isEmpty(result any) bool {
	switch r := result.(type) {
	case *s3.PutObjectOutput:
		return r.ETag == nil
	case *s3.UploadPartOutput:
		return r.ETag == nil
	case *s3.ListObjectsV2Output:
		return r.Name == nil
	case *s3.ListMultipartUploadsOutput:
		return r.Bucket == nil
	case *s3.CreateMultipartUploadOutput:
		return r.UploadId == nil
	case *s3.CompleteMultipartUploadOutput:
		return r.ETag == nil
	}
	return false
}

// Outcomes of a request, for whoever counts.
const (
	OutcomeOK        = "ok"
	OutcomeAbsent    = "absent"    // there is no such object
	OutcomeUnmet     = "unmet"     // the condition of a write did not hold
	OutcomeConflict  = "conflict"  // another write was under way
	OutcomeThrottled = "throttled" // the store asked for fewer requests
	OutcomeRefused   = "refused"   // such as for lack of a permission
	OutcomeFailed    = "failed"    // a fault of the store
	OutcomeLost      = "lost"      // no whole answer came
)

// Outcomes lists them.
var Outcomes = []string{OutcomeOK, OutcomeAbsent, OutcomeUnmet, OutcomeConflict, OutcomeThrottled, OutcomeRefused, OutcomeFailed, OutcomeLost}

func outcome(err error) string {
	status := statusOf(err)
	switch {
	case err == nil:
		return OutcomeOK
	case status == 0 || isTorn(err):
		return OutcomeLost
	case status == http.StatusTooManyRequests || codeOf(err) == "SlowDown":
		return OutcomeThrottled
	case status >= http.StatusInternalServerError:
		return OutcomeFailed
	case isAbsent(err):
		return OutcomeAbsent
	case status == http.StatusPreconditionFailed:
		return OutcomeUnmet
	case isConflict(err):
		return OutcomeConflict
	}
	return OutcomeRefused
}
