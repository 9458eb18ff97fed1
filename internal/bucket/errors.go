// SPDX-License-Identifier: AGPL-3.0-or-later

package bucket

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/lirios/ostree-upload/internal/hint"
)

// ErrChanged tells that an object is not any more what a write expected.
var ErrChanged = errors.New("somebody else has written it meanwhile")

// ErrLarge tells that an object has more bytes than it may have.
var ErrLarge = errors.New("it has more")

// errNoRegion tells that nothing says where a bucket of AWS is.
var errNoRegion = errors.New("its region is not known: the environment lacks AWS_REGION")

// Unset tells whether what failed is that this process was told nothing of credentials, or
// of the region, which another one may have been.
func Unset(err error) bool {
	var none *credentialsError
	return errors.As(err, &none) || errors.Is(err, errNoRegion)
}

// requestError is a request that failed.
type requestError struct {
	doing, url string
	err        error // what it means
	cause      error // what the SDK said of it
}

func (e *requestError) Error() string   { return fmt.Sprintf("%s %s: %v", e.doing, e.url, e.err) }
func (e *requestError) Unwrap() []error { return []error{e.err, e.cause} }

// named says what was being done with which object when err happened.
func (b *Bucket) named(err error, doing, key string) error {
	return &requestError{doing, b.URL(key), err, err}
}

// fail is the error of a request, in words, with what to do about it. need is the
// permission that it takes.
func (b *Bucket) fail(err error, doing, key, need string) error {
	next, worded := b.explain(err, need)
	named := &requestError{doing, b.URL(key), worded, err}
	if next == "" {
		return named
	}
	return hint.Add(named, "%s", next)
}

// explain says what an answer of the store means, and what to do.
func (b *Bucket) explain(err error, need string) (next string, worded error) {
	var noCredentials *credentialsError
	var untrusted *tls.CertificateVerificationError
	status, code := statusOf(err), codeOf(err)
	switch {
	case errors.As(err, &untrusted):
		return "set AWS_CA_BUNDLE to a file of the authority that issued it, in PEM", said("the store's certificate is not trusted", err)
	case errors.As(err, &noCredentials):
		return "give this process credentials, such as by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of its machine", noCredentials
	case code == "NoSuchBucket":
		return "make the bucket, or correct its name in repo, and the endpoint if it is in another store", fmt.Errorf("there is no bucket %s", b.cfg.Bucket)
	case code == "PermanentRedirect" || code == "AuthorizationHeaderMalformed" || status == http.StatusMovedPermanently:
		return b.region(err)
	case code == "RequestTimeTooSkewed":
		return "set the clock of this machine, as NTP does", said("the store takes this machine's clock for wrong", err)
	case code == "InvalidAccessKeyId" || code == "SignatureDoesNotMatch" || code == "ExpiredToken" || code == "InvalidToken" || code == unknownUser:
		return "renew the credentials of this process, and see that they are for this store", said("the store does not take the credentials", err)
	case status == http.StatusForbidden || code == "AccessDenied" || status == http.StatusUnauthorized:
		return b.allow(need), said("access denied", err)
	case isThrottled(err):
		return "wait: it is tried again; if it lasts, raise the store's limits", said("the store asks for fewer requests", err)
	case status == 0 && Temporary(err):
		return "wait until the store answers; if it never does, see the network, s3.endpoint, and s3.path-style where the name of its host is not known", said("the store does not answer", err)
	case Temporary(err):
		return "wait until the store answers again; see its own logs if it does not", said("the store fails", err)
	}
	if status != 0 && code == "" {
		return "see that s3.endpoint is the URL of a store that speaks S3", said("this is no answer of an S3 store", err)
	}
	return "", said("the store refused", err)
}

// region words that the bucket is in another region.
func (b *Bucket) region(err error) (next string, worded error) {
	var answer *smithyhttp.ResponseError
	region := ""
	if errors.As(err, &answer) && answer.Response != nil {
		region = answer.Response.Header.Get("X-Amz-Bucket-Region")
	}
	if region == "" {
		return "set AWS_REGION to the bucket's region", said("the bucket is in another region or at another endpoint", err)
	}
	return "set AWS_REGION=" + region, fmt.Errorf("the bucket is in the region %s", region)
}

// allow says which permission is lacking.
func (b *Bucket) allow(need string) string {
	say := fmt.Sprintf("allow %s on arn:aws:s3:::%s to the credentials of this process", need, b.resource(need))
	if need == needGet {
		say += ", and " + needList + " on the whole bucket, without which S3 does not say that an object is not there"
	}
	return say
}

// resource is what a permission is for, in the name of which AWS writes it.
func (b *Bucket) resource(need string) string {
	if need == needList {
		return b.cfg.Bucket
	}
	return b.cfg.Bucket + "/" + *b.key("*")
}

// The permissions that requests need, by S3's names.
const (
	needList   = "s3:ListBucket"
	needGet    = "s3:GetObject"
	needPut    = "s3:PutObject"
	needDelete = "s3:DeleteObject"
	needAbort  = "s3:AbortMultipartUpload"
)

// said puts a meaning before what the store said itself, as far as it said something.
func said(meaning string, err error) error {
	var api smithy.APIError
	switch {
	case errors.As(err, &api) && api.ErrorMessage() != "":
		return fmt.Errorf("%s (%d %s: %.300s)", meaning, statusOf(err), api.ErrorCode(), api.ErrorMessage())
	case statusOf(err) != 0:
		return fmt.Errorf("%s (%d %s)", meaning, statusOf(err), codeOf(err))
	}
	return fmt.Errorf("%s (%w)", meaning, innermost(err))
}

// innermost is what happened on the way, without how the SDK came to it.
func innermost(err error) error {
	var of *smithy.OperationError
	var sent *url.Error
	switch {
	case errors.As(err, &sent):
		return sent.Err
	case errors.As(err, &of):
		return of.Err
	}
	return err
}

// Temporary tells whether a later call may do what failed with err: the store or the way
// to it failed, or there were no credentials, as when a role's are renewed.
func Temporary(err error) bool {
	var sent *smithy.OperationError
	switch status := statusOf(err); {
	case err == nil || errors.Is(err, context.Canceled) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) || errors.Is(err, ErrChanged):
		return false
	case isTorn(err) || errors.Is(err, context.DeadlineExceeded):
		return true
	case status != 0:
		return status >= http.StatusInternalServerError || isThrottled(err) || isConflict(err) || codeOf(err) == "RequestTimeout"
	}
	return errors.As(err, &sent) // and had no answer
}

// unknownUser is versitygw's code, with status 404, for an access key that it does not know.
const unknownUser = "XAdminUserNotFound"

// Unreadable tells whether the store said that it cannot give an object which it has: each
// time, so that its disk may be at fault, or because the object is in an archive.
func Unreadable(err error) bool {
	return statusOf(err) >= http.StatusInternalServerError && !isThrottled(err) || codeOf(err) == "InvalidObjectState"
}

func isThrottled(err error) bool {
	return statusOf(err) == http.StatusTooManyRequests || codeOf(err) == "SlowDown"
}

// isAbsent tells of an object, or an upload of parts, that is not there. Other answers
// with this status are about something else, such as the bucket or who asks.
func isAbsent(err error) bool {
	switch codeOf(err) {
	case "NoSuchKey", "NoSuchUpload", "NotFound": // the last where the answer has no body
		return statusOf(err) == http.StatusNotFound
	}
	return false
}

func isUnmet(err error) bool { return statusOf(err) == http.StatusPreconditionFailed }

// statusOf is the status of an answer, 0 if there was none.
func statusOf(err error) int {
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) && answer.Response != nil {
		return answer.HTTPStatusCode()
	}
	return 0
}

// codeOf is S3's code of an error, "" if there is none.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// credentialsError tells that no credentials could be had.
type credentialsError struct{ err error }

// Error says where they were looked for, since it is often another shell that has them.
func (e *credentialsError) Error() string {
	var unset []string
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"} {
		if os.Getenv(name) == "" {
			unset = append(unset, name)
		}
	}
	environment := "the environment"
	if len(unset) > 0 {
		environment += " (it lacks " + strings.Join(unset, ", ") + ")"
	}
	file := cmp.Or(os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), filepath.Join(os.Getenv("HOME"), ".aws", "credentials"))
	return fmt.Sprintf("there are no credentials: not in %s, in %s or by a role of the machine (%v)", environment, file, innermost(e.err))
}
func (e *credentialsError) Unwrap() error { return e.err }

// wordedCredentials marks the errors of another source.
type wordedCredentials struct{ of aws.CredentialsProvider }

// Retrieve implements aws.CredentialsProvider.
func (c wordedCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	found, err := c.of.Retrieve(ctx)
	if err != nil {
		err = &credentialsError{err}
	}
	return found, err
}
