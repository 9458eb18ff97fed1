// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eventials/go-tus"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// Traffic counts what uploads, and all retries, have done so far.
type Traffic struct {
	Acknowledged atomic.Int64 // upload bytes that the server acknowledged
	Skipped      atomic.Int64 // upload bytes that the server had from earlier runs
	Resent       atomic.Int64 // upload bytes that went out once more
	Retries      atomic.Int64 // requests that were repeated

	mu       sync.Mutex
	underway map[*atomic.Int64]bool // what went out of each request whose fate is not known
}

// Underway is how many bytes went out in requests of which it is not known yet what
// the server took.
func (t *Traffic) Underway() (n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for out := range t.underway {
		n += out.Load()
	}
	return n
}

// start counts out among the bytes under way, until end.
func (t *Traffic) start(out *atomic.Int64) (end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.underway == nil {
		t.underway = map[*atomic.Int64]bool{}
	}
	t.underway[out] = true
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.underway, out)
	}
}

// An Uploader uploads bodies, each until the server has all of it.
//
// A body's Read fills the whole buffer while there is more and returns no bytes
// together with io.EOF, as go-tus needs. Nothing reads it once the call has
// returned.
type Uploader struct {
	client  *Client
	retrier *Retrier
	traffic *Traffic
	pace    *pace
	noHead  atomic.Bool // something on the way does not let HEAD through

	// CheckRival, if set, is asked before an upload goes on that stood still for
	// longer than QuietTime: its error ends the upload. HEAD would cut off whoever
	// sends now.
	CheckRival func(context.Context) error
	QuietTime  time.Duration
}

// NewUploader returns one whose requests carry at most chunk bytes.
func NewUploader(c *Client, r *Retrier, t *Traffic, chunk int64) *Uploader {
	return &Uploader{client: c, retrier: r, traffic: t, pace: newPace(chunk)}
}

// Pack uploads a pack of so many bytes into a session, under a name that the
// session has not seen.
func (u *Uploader) Pack(ctx context.Context, session, name string, body io.ReadSeeker, size int64) error {
	return u.send(ctx, session, name, body, size, tus.Metadata{"session": session, "pack": name})
}

// Object uploads one object in archive form under its own name. What an earlier
// run sent of it counts if that had the same SHA-256, digest in hex.
func (u *Uploader) Object(ctx context.Context, session string, object ostree.Name, digest string, body io.ReadSeeker, size int64) error {
	name := object.String()
	return u.send(ctx, session, name, body, size, tus.Metadata{"session": session, "object": name, "digest": digest})
}

func (u *Uploader) send(ctx context.Context, session, name string, body io.ReadSeeker, size int64, meta tus.Metadata) error {
	up, err := u.newUpload(ctx, session, name, &detachable{body: body}, size, meta)
	if err != nil {
		return err
	}
	defer up.body.detach()
	defer func() { up.settle() }()
	return u.retrier.do(ctx, "upload "+name, up.try)
}

// An upload is one upload under way.
type upload struct {
	uploader *Uploader

	ctx     context.Context
	session string
	name    string
	url     string
	body    *detachable
	meta    tus.Metadata
	size    int64

	config  *tus.Config
	tus     *tus.Client
	tusBody *tus.Upload
	binding *binding
	created bool
	whole   bool          // the server has all of it
	live    *tus.Uploader // knows the offset; nil: ask the server
	moved   time.Time     // when the server took something last, or the upload began
	counted int64         // offset up to which Acknowledged has been counted; -1: unknown
	reached int64         // offset up to which bytes have gone out
	settle  func()        // ends the count of the last request as under way, once its fate is known
}

func (u *Uploader) newUpload(ctx context.Context, session, name string, body *detachable, size int64, meta tus.Metadata) (*upload, error) {
	up := &upload{
		uploader: u, ctx: ctx, session: session, name: name, url: u.client.url(uploadPath(session, name)),
		body: body, meta: meta, size: size, moved: time.Now(), counted: -1, settle: func() {},
		binding: &binding{ctx: ctx, next: u.client.transport},
	}
	// A config and a client of its own: go-tus allocates ChunkSize bytes for each
	// request, however few are left.
	up.config = &tus.Config{
		ChunkSize: u.pace.next(), Resume: true, Store: oneURL(up.url), Header: http.Header{},
		HttpClient: &http.Client{Transport: up.binding},
	}
	var err error
	if up.tus, err = tus.NewClient(u.client.url("files/"), up.config); err != nil {
		return nil, fmt.Errorf("upload %s: %w", name, err)
	}
	up.tusBody = tus.NewUpload(body, size, meta, name)
	return up, nil
}

// try goes on with the upload from the offset that the server tells. There was
// progress if the server has more than before, be it by a request that broke off.
func (u *upload) try() (progress bool, err error) {
	from := max(0, u.counted)
	defer func() { progress = u.counted > from }()
	for {
		if err := u.locate(); err != nil || u.whole {
			return false, err
		}
		if u.live == nil { // terminated, as other bytes were there, or HEAD is not let through
			continue
		}
		if u.live.Offset() >= u.size {
			return false, nil
		}
		if err := u.patch(); err != nil {
			return false, err
		}
		u.uploader.retrier.Progressed()
	}
}

// locate creates the upload if it does not exist, and learns its offset.
func (u *upload) locate() error {
	if u.live != nil {
		return nil
	}
	if check := u.uploader.CheckRival; check != nil && time.Since(u.moved) > u.uploader.QuietTime {
		if err := check(u.ctx); err != nil {
			return err
		}
	}
	noHead := u.uploader.noHead.Load()
	if !u.created || noHead {
		if err := u.create(); err != nil || u.live != nil || u.whole || !u.created {
			return err
		}
	}
	return u.resume(noHead)
}

// create creates the upload. If it exists already, the answer tells its offset, or
// else resume asks for it.
func (u *upload) create() error {
	_, err := u.tus.CreateUpload(u.tusBody)
	var answer *answerError
	switch {
	case err == nil:
		// At our own URL: Location may name any host.
		u.live, u.counted = tus.NewUploader(u.tus, u.url, u.tusBody, 0), 0
	case Status(err) == http.StatusConflict && Code(err) != wire.SessionClosed:
		if errors.As(err, &answer) && answer.header.Get("Upload-Offset") != "" {
			return u.goOn(answer.header)
		}
	default:
		return u.cause(err)
	}
	u.created = true
	return nil
}

// resume asks the server for the offset. Where something on the way does not let
// HEAD through, as a cache that makes a GET of it, the creation is asked for again
// in its place, of this upload and of all others; that told nothing if noHead is
// set.
func (u *upload) resume(noHead bool) error {
	_, err := u.tus.ResumeUpload(u.tusBody)
	if err == nil {
		return u.goOn(u.binding.head)
	}
	err = u.cause(err)
	if isOddHead(err) && !noHead {
		u.uploader.noHead.Store(true)
		return nil
	}
	return u.recreateIfGone(err)
}

// isOddHead reports whether err, of a HEAD, says that it did not come as one to the
// server, or came back as none.
func isOddHead(err error) bool {
	var network *networkError
	var answer *answerError
	switch {
	case errors.As(err, &network):
		return false
	case !errors.As(err, &answer):
		return true // a success without an offset
	}
	switch answer.problem.Status {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return answer.foreign() && answer.problem.Status == http.StatusForbidden
}

// goOn takes the offset from the header of an answer, and terminates an upload of
// other bytes.
func (u *upload) goOn(h http.Header) error {
	offset, err := strconv.ParseInt(h.Get("Upload-Offset"), 10, 64)
	if err != nil || offset < 0 {
		return retryableError{fmt.Errorf("the server tells no offset of upload %s, but %q", u.name, h.Get("Upload-Offset"))}
	}
	u.created = true
	if u.counted >= 0 && offset > max(u.counted, u.reached) {
		return u.takenOver()
	}
	length, err := strconv.ParseInt(h.Get("Upload-Length"), 10, 64)
	if err == nil && offset >= length { // whole, and ingested or about to be
		u.acknowledge(offset)
		u.whole = true
		return nil
	}
	sum := headDigest(h)
	if err == nil && length != u.size || offset > u.size || sum != "" && sum != u.meta["digest"] {
		return u.terminate()
	}
	u.acknowledge(offset)
	u.live = tus.NewUploader(u.tus, u.url, u.tusBody, offset)
	return nil
}

func (u *upload) terminate() error {
	err := u.uploader.client.terminate(u.ctx, u.session, u.name)
	if err != nil && Status(err) != http.StatusNotFound && Status(err) != http.StatusGone {
		return err
	}
	u.created = false
	u.counted = -1
	return nil
}

// patch sends the next chunk.
func (u *upload) patch() error {
	from := u.live.Offset()
	u.config.ChunkSize = min(u.uploader.pace.next(), u.size-from)
	sent := u.config.ChunkSize
	u.binding.out = new(atomic.Int64)
	u.settle()
	u.settle = u.uploader.traffic.start(u.binding.out)
	err := u.live.UploadChunck()
	u.countSent(from, u.binding.out.Load())
	if err == nil && u.live.Offset() != from+sent {
		err = retryableError{fmt.Errorf("sent %d bytes from offset %d, but the server's offset is now %d", sent, from, u.live.Offset())}
	}
	if err == nil {
		u.uploader.pace.arrived(sent)
		u.acknowledge(from + sent)
		return nil
	}
	u.live = nil
	return u.chunkFailed(u.cause(err), sent)
}

// countSent notes that n bytes went out from an offset on, and counts those that
// had gone out before.
func (u *upload) countSent(from, n int64) {
	u.uploader.traffic.Resent.Add(max(0, min(from+n, u.reached)-from))
	u.reached = max(u.reached, from+n)
}

// chunkFailed prepares the next try after a chunk that did not get through.
func (u *upload) chunkFailed(err error, sent int64) error {
	switch Status(err) {
	case 0, http.StatusRequestTimeout, http.StatusBadGateway, http.StatusGatewayTimeout:
		u.uploader.pace.dropped(sent)
	case http.StatusConflict:
		if Code(err) != wire.SessionClosed {
			return retryableError{err}
		}
	case http.StatusBadRequest:
		// By another request, and this upload has only one under way.
		if Code(err) != "" && strings.Contains(err.Error(), "ERR_UPLOAD_INTERRUPTED") {
			return u.takenOver()
		}
	case http.StatusRequestEntityTooLarge:
		// From a proxy; our server's own limit says too-large.
		if Code(err) == wire.TooLarge {
			break
		}
		if u.uploader.pace.refused(sent) {
			return retryableError{err}
		}
		return hint.Add(fmt.Errorf("something before the server takes no request of %d bytes: %w", sent, err),
			"no push gets through with less than %d bytes a request; have the limit raised there, in nginx by client_max_body_size", smallestChunk)
	}
	return u.recreateIfGone(err)
}

// ErrTakenOver is in the error of an upload into which, or into whose session,
// someone else has sent meanwhile.
var ErrTakenOver = errors.New("another push has taken over")

func (u *upload) takenOver() error { return fmt.Errorf("upload %s: %w", u.name, ErrTakenOver) }

// recreateIfGone has the next try create an upload that the server does not know. A
// pack of which it knew a part before was salvaged by someone else; an object of
// other bytes than its name says is gone once it was verified.
func (u *upload) recreateIfGone(err error) error {
	if Code(err) == wire.NotFound && u.reached > 0 && u.meta["pack"] != "" {
		return u.takenOver()
	}
	if Status(err) == http.StatusNotFound || Status(err) == http.StatusGone {
		u.created = false
		if KindOf(err) != Temporary { // else it may be there, behind a proxy that has no server for the moment
			u.counted = -1
		}
		return retryableError{err}
	}
	return err
}

// cause is the error behind what go-tus returned. If the body cannot be read,
// no repetition changes that; all else that is neither an answer nor of the
// network is an answer that makes no sense.
func (u *upload) cause(err error) error {
	if u.body.err != nil {
		return u.body.err
	}
	var answer *answerError
	var network *networkError
	err = u.uploader.client.unwrapped(err)
	if errors.As(err, &answer) || errors.As(err, &network) {
		return err
	}
	return retryableError{err}
}

// acknowledge counts the bytes that the server has beyond those counted before.
// What it had before this run is skipped.
func (u *upload) acknowledge(offset int64) {
	u.settle()
	switch {
	case u.counted < 0:
		u.uploader.traffic.Skipped.Add(min(offset, u.size))
	case offset > u.counted:
		u.uploader.traffic.Acknowledged.Add(offset - u.counted)
	}
	u.counted = max(u.counted, offset)
	u.moved = time.Now()
}

// headDigest is the digest in an answer's Upload-Metadata, or "".
func headDigest(h http.Header) string {
	for pair := range strings.SplitSeq(h.Get("Upload-Metadata"), ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(pair), " ")
		if key != "digest" {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return value
		}
		return string(b)
	}
	return ""
}
