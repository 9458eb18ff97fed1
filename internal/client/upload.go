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
	"sync/atomic"

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
	counted int64         // offset up to which Acknowledged has been counted; -1: unknown
	reached int64         // offset up to which bytes have gone out
}

func (u *Uploader) newUpload(ctx context.Context, session, name string, body *detachable, size int64, meta tus.Metadata) (*upload, error) {
	up := &upload{
		uploader: u, ctx: ctx, session: session, name: name, url: u.client.url(uploadPath(session, name)),
		body: body, meta: meta, size: size, counted: -1,
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
		if u.live == nil { // terminated: other bytes were there
			continue
		}
		if u.live.Offset() >= u.size {
			return false, nil
		}
		if err := u.patch(); err != nil {
			return false, err
		}
		u.uploader.retrier.progressed()
	}
}

// locate creates the upload if it does not exist, and asks for its offset.
func (u *upload) locate() error {
	if u.live != nil {
		return nil
	}
	if !u.created {
		if err := u.create(); err != nil || u.live != nil {
			return err
		}
	}
	return u.resume()
}

// create creates the upload. It may exist already: resume asks for its offset then.
func (u *upload) create() error {
	_, err := u.tus.CreateUpload(u.tusBody)
	switch {
	case err == nil:
		// At our own URL: Location may name any host.
		u.live, u.counted = tus.NewUploader(u.tus, u.url, u.tusBody, 0), 0
	case Status(err) == http.StatusConflict && Code(err) != wire.SessionClosed:
	default:
		return u.cause(err)
	}
	u.created = true
	return nil
}

// resume asks the server for the offset, and terminates an upload of other bytes.
func (u *upload) resume() error {
	live, err := u.tus.ResumeUpload(u.tusBody)
	if err != nil {
		return u.recreateIfGone(u.cause(err))
	}
	length, err := strconv.ParseInt(u.binding.head.Get("Upload-Length"), 10, 64)
	if err == nil && live.Offset() >= length { // whole, and ingested or about to be
		u.acknowledge(live.Offset())
		u.whole = true
		return nil
	}
	sum := headDigest(u.binding.head)
	if err == nil && length != u.size || live.Offset() > u.size || sum != "" && sum != u.meta["digest"] {
		return u.terminate()
	}
	u.acknowledge(live.Offset())
	u.live = live
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

// recreateIfGone has the next try create an upload that the server does not know.
func (u *upload) recreateIfGone(err error) error {
	if errors.Is(err, tus.ErrUploadNotFound) || Status(err) == http.StatusNotFound || Status(err) == http.StatusGone {
		u.created = false
		u.counted = -1
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
	switch {
	case u.counted < 0:
		u.uploader.traffic.Skipped.Add(min(offset, u.size))
	case offset > u.counted:
		u.uploader.traffic.Acknowledged.Add(offset - u.counted)
	}
	u.counted = max(u.counted, offset)
}

// headDigest is the digest in the Upload-Metadata of a HEAD's answer, or "".
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
