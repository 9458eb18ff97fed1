// SPDX-License-Identifier: AGPL-3.0-or-later

// Package bucket is one folder of one bucket of an object store that speaks S3.
//
//   - Create and Swap write only if nobody else wrote before. If they return nil, the
//     object is there and durable with these bytes. A try whose answer was lost is
//     tried again, and finds what it wrote itself.
//   - Answers that were cut off are errors.
//   - A failure that may pass is tried again for some seconds. What then is returned
//     tells Temporary that a later call may succeed.
//   - Errors name the object, and what to do has been added to them as a hint.
//
// Keys are relative to the folder, have slashes, and do not begin with one. Sizes are
// bytes. A Bucket may be used concurrently; memory does not grow with the objects that
// are written or read, but for those of Get, Put and Swap.
package bucket

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/lirios/ostree-upload/internal/hint"
)

// Config says which folder of which bucket. Credentials and region come from where the
// command line of AWS finds them: the environment, files, roles.
type Config struct {
	Bucket    string
	Prefix    string // the folder in it; "" for the whole bucket
	Endpoint  string // a URL; "" for AWS
	PathStyle bool   // the bucket is in the path of URLs, not in their host
	Log       *slog.Logger
	// Count is called after each request to the store, with S3's name of what it asked
	// for, such as PutObject, and one of Outcomes. nil: nobody counts.
	Count func(request, outcome string)

	Connections int           // kept for the next requests; 0: 64
	Tries       int           // of a request that fails; 0: 6
	Backoff     time.Duration // the longest wait between two of them; 0: 20 s
	Stall       time.Duration // without a byte on a connection ends it; 0: 2 min
	PartsAbove  int64         // larger objects are written in parts; 0: 1 GiB
	PartSize    int64         // at least; 0: 128 MiB
	// DeletesByMatch is what a Probe of another Bucket has found.
	DeletesByMatch bool
}

// Bucket is one folder of one bucket.
type Bucket struct {
	cfg    Config
	client *s3.Client
	// deletesByMatch is what Probe found: whether a deletion can have a condition.
	deletesByMatch atomic.Bool
}

// Open makes the client of a bucket. It sends nothing to the store; Probe does.
func Open(ctx context.Context, cfg Config) (*Bucket, error) {
	cfg.fill()
	b := &Bucket{cfg: cfg}
	b.deletesByMatch.Store(cfg.DeletesByMatch)
	loaded, err := config.LoadDefaultConfig(ctx, config.WithLogger(logging.Nop{}))
	if err != nil {
		return nil, hint.Add(b.named(err, "read the settings for", ""), "correct the files and variables of AWS (AWS_PROFILE, AWS_REGION, ~/.aws/config) of the user as which this runs")
	}
	if loaded.Region == "" {
		if cfg.Endpoint == "" {
			return nil, hint.Add(b.named(errNoRegion, "use", ""), "set AWS_REGION to the bucket's region, or s3.endpoint to the URL of another store")
		}
		loaded.Region = "us-east-1" // what stores take that have no regions
	}
	b.client = s3.NewFromConfig(loaded, b.options)
	return b, nil
}

// fill sets what is not set.
func (c *Config) fill() {
	c.Prefix = strings.Trim(c.Prefix, "/")
	if c.Count == nil {
		c.Count = func(string, string) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	orElse(&c.Connections, 64)
	orElse(&c.Tries, 6)
	orElse(&c.Backoff, 20*time.Second)
	orElse(&c.Stall, 2*time.Minute)
	orElse(&c.PartsAbove, 1<<30)
	orElse(&c.PartSize, 128<<20)
}

func orElse[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// client changes the one that the SDK has made. It keeps as many connections as requests run
// at a time. A request has no time in which it must end, as bodies are large; a connection
// that stands still is ended, by our own count: the SDK's does not see what is written.
func (c *Config) client(made *awshttp.BuildableClient) *awshttp.BuildableClient {
	return made.WithReadTimeout(0).WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxIdleConnsPerHost = c.Connections, c.Connections
		t.IdleConnTimeout = min(c.Stall/2, 30*time.Second)
		dial := t.DialContext
		t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &stalling{conn, c.Stall}, nil
		}
	})
}

func (b *Bucket) options(o *s3.Options) {
	if b.cfg.Endpoint != "" {
		o.BaseEndpoint = aws.String(b.cfg.Endpoint)
	}
	o.UsePathStyle = b.cfg.PathStyle
	// Bodies have the checksum that Create sends itself. Without this, the client would
	// add another as a trailer, which not all stores understand.
	o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	// What is read is compared with its name, or parsed. An object that its store has damaged
	// is to be told from an answer that was cut off.
	o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	o.DisableLogOutputChecksumValidationSkipped = true
	o.Credentials = wordedCredentials{o.Credentials}
	if made, is := o.HTTPClient.(*awshttp.BuildableClient); is {
		o.HTTPClient = b.cfg.client(made)
	}
	o.APIOptions = append(o.APIOptions, b.watch)
}

// key is the whole key of a relative one.
func (b *Bucket) key(relative string) *string {
	if b.cfg.Prefix != "" {
		relative = b.cfg.Prefix + "/" + relative
	}
	return &relative
}

// String is the folder's URL.
func (b *Bucket) String() string { return b.URL("") }

// URL names an object, or the folder for "".
func (b *Bucket) URL(key string) string {
	return strings.TrimSuffix("s3://"+b.cfg.Bucket+"/"+*b.key(key), "/")
}

// WriteCommand is the command line by which somebody with the credentials writes its
// standard input as an object that changes.
func (b *Bucket) WriteCommand(key string) string {
	to := ""
	if b.cfg.Endpoint != "" {
		to = " --endpoint-url " + hint.Word(b.cfg.Endpoint)
	}
	return "aws s3 cp" + to + " --cache-control no-cache - " + hint.Word(b.URL(key))
}

// A Source is the body of an object. Create may read it several times.
type Source struct {
	Content io.ReaderAt
	Size    int64
	SHA256  []byte // of all of it; nil: Create reads it once for that
}
