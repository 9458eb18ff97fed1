// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/eventials/go-tus"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// A sender uploads contents into one session. Its methods may be called
// concurrently.
type sender struct {
	client   *Client
	session  string
	pace     *pace
	patience *patience
	progress *Progress
}

// sendPack uploads a pack under a name that the session has not seen.
func (s *sender) sendPack(ctx context.Context, name string, pack *content) error {
	return s.send(ctx, name, pack, tus.Metadata{"session": s.session, "pack": name})
}

// sendObject uploads one object under its own name. What an earlier run sent of
// it counts if that had the same bytes.
func (s *sender) sendObject(ctx context.Context, o *ostree.Object) error {
	sum, err := digest(o)
	if err != nil {
		return err
	}
	name := o.Name.String()
	return s.send(ctx, name, newSingle(o), tus.Metadata{"session": s.session, "object": name, "digest": sum})
}

// digest is the SHA-256 of the object's archive form, which two compressors
// make differently.
func digest(o *ostree.Object) (string, error) {
	if o.Digest != nil {
		return hex.EncodeToString(o.Digest), nil
	}
	r, err := o.Open()
	if err != nil {
		return "", fmt.Errorf("read object %s: %w", o.Name, err)
	}
	defer r.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil {
		return "", fmt.Errorf("read object %s: %w", o.Name, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// send uploads c until the server has all of it.
func (s *sender) send(ctx context.Context, name string, c *content, meta tus.Metadata) error {
	u, err := s.newUpload(ctx, name, c, meta)
	if err != nil {
		return err
	}
	defer u.source.detach()
	s.progress.begin(c)
	if err := s.patience.do(ctx, "upload "+name, u.try); err != nil {
		return err
	}
	s.progress.Sent.Add(int64(len(c.parts)))
	return nil
}

// An upload is one upload under way.
type upload struct {
	*sender
	ctx    context.Context
	name   string
	url    string
	source *detachable
	meta   tus.Metadata
	size   int64

	config  *tus.Config
	client  *tus.Client
	tus     *tus.Upload
	wire    *binding
	created bool
	whole   bool          // the server has all of it
	live    *tus.Uploader // knows the offset; nil: ask the server
	counted int64         // offset up to which Acknowledged has been counted; -1: unknown
	reached int64         // offset up to which bytes have gone out
}

func (s *sender) newUpload(ctx context.Context, name string, c *content, meta tus.Metadata) (*upload, error) {
	u := &upload{
		sender: s, ctx: ctx, name: name, url: s.client.url(uploadPath(s.session, name)),
		source: &detachable{c}, meta: meta, size: c.size, counted: -1,
		wire: &binding{ctx: ctx, next: s.client.transport},
	}
	// A config and a client of its own: go-tus allocates ChunkSize bytes for each
	// request, however few are left.
	u.config = &tus.Config{
		ChunkSize: s.pace.next(), Resume: true, Store: oneURL(u.url), Header: http.Header{},
		HttpClient: &http.Client{Transport: u.wire},
	}
	client, err := tus.NewClient(s.client.url("files/"), u.config)
	if err != nil {
		return nil, fmt.Errorf("upload %s: %w", name, err)
	}
	u.client = client
	u.tus = tus.NewUpload(u.source, c.size, meta, name)
	return u, nil
}

// try goes on with the upload from wherever the server says that it stands. It
// moved if the server has more than before: also by a request that broke off.
func (u *upload) try() (moved bool, err error) {
	from := max(0, u.counted)
	defer func() { moved = u.counted > from }()
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
		u.patience.progress()
	}
}

// locate has the upload exist and its offset known.
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

// create makes the upload. One that exists is as good: resume asks for its offset.
func (u *upload) create() error {
	_, err := u.client.CreateUpload(u.tus)
	switch {
	case err == nil:
		// At our own URL: Location may name any host.
		u.live, u.counted = tus.NewUploader(u.client, u.url, u.tus, 0), 0
	case status(err) == http.StatusConflict && code(err) != wire.SessionClosed:
	default:
		return u.cause(err)
	}
	u.created = true
	return nil
}

// resume asks the server for the offset, and terminates an upload of other bytes.
func (u *upload) resume() error {
	live, err := u.client.ResumeUpload(u.tus)
	if err != nil {
		return u.gone(u.cause(err))
	}
	length, err := strconv.ParseInt(u.wire.head.Get("Upload-Length"), 10, 64)
	if err == nil && live.Offset() >= length { // whole, and ingested or about to be
		u.acknowledge(live.Offset())
		u.whole = true
		return nil
	}
	sum := headDigest(u.wire.head)
	if err == nil && length != u.size || live.Offset() > u.size || sum != "" && sum != u.meta["digest"] {
		return u.terminate()
	}
	u.acknowledge(live.Offset())
	u.live = live
	return nil
}

func (u *upload) terminate() error {
	err := u.sender.client.Terminate(u.ctx, u.session, u.name)
	if err != nil && status(err) != http.StatusNotFound && status(err) != http.StatusGone {
		return err
	}
	u.created = false
	u.counted = -1
	return nil
}

// patch sends the next chunk.
func (u *upload) patch() error {
	from := u.live.Offset()
	u.config.ChunkSize = min(u.pace.next(), u.size-from)
	sent := u.config.ChunkSize
	u.wire.out = new(atomic.Int64)
	err := u.live.UploadChunck()
	u.went(from, u.wire.out.Load())
	if err == nil && u.live.Offset() != from+sent {
		err = passingError{fmt.Errorf("sent %d bytes from %d, the server is at %d", sent, from, u.live.Offset())}
	}
	if err == nil {
		u.pace.arrived(sent)
		u.acknowledge(from + sent)
		return nil
	}
	u.live = nil
	return u.broken(u.cause(err), sent)
}

// went notes that so many bytes went out from an offset on, and counts those that
// had gone out before.
func (u *upload) went(from, n int64) {
	u.progress.Resent.Add(max(0, min(from+n, u.reached)-from))
	u.reached = max(u.reached, from+n)
}

// broken says what to do about a chunk that did not get through.
func (u *upload) broken(err error, sent int64) error {
	switch status(err) {
	case 0, http.StatusRequestTimeout, http.StatusBadGateway, http.StatusGatewayTimeout:
		u.pace.dropped(sent)
	case http.StatusConflict:
		if code(err) != wire.SessionClosed {
			return passingError{err}
		}
	case http.StatusRequestEntityTooLarge:
		// From a proxy; our server's own limit says too-large.
		if code(err) != wire.TooLarge && u.pace.refused(sent) {
			return passingError{err}
		}
	}
	return u.gone(err)
}

// gone makes an upload that the server does not know be created again.
func (u *upload) gone(err error) error {
	if errors.Is(err, tus.ErrUploadNotFound) || status(err) == http.StatusNotFound || status(err) == http.StatusGone {
		u.created = false
		u.counted = -1
		return passingError{err}
	}
	return err
}

// cause is the error behind what go-tus returned. Of an object that cannot be
// read, no repetition changes anything; all else that is neither an answer nor
// of the network is an answer that makes no sense.
func (u *upload) cause(err error) error {
	if u.source.content != nil && u.source.content.err != nil {
		return u.source.content.err
	}
	if again, _ := judge(err); again || status(err) != 0 || isNetwork(err) {
		return plain(err)
	}
	return passingError{err}
}

// acknowledge counts the bytes that the server has beyond those counted before.
// What it had before this run is not ours to count.
func (u *upload) acknowledge(offset int64) {
	switch {
	case u.counted < 0:
		u.progress.BegunBytes.Add(-min(offset, u.size))
	case offset > u.counted:
		u.progress.Acknowledged.Add(offset - u.counted)
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

// A binding binds go-tus's requests to the push's context, which go-tus cannot
// be given, keeps the header of the last HEAD, and tells how much of the last
// PATCH went out.
type binding struct {
	ctx  context.Context
	next http.RoundTripper
	head http.Header
	out  *atomic.Int64 // a new one for each PATCH
}

func (b *binding) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.WithContext(b.ctx)
	if req.Method == http.MethodPatch && req.Body != nil {
		b.count(req)
	}
	res, err := b.next.RoundTrip(req)
	if err == nil && req.Method == http.MethodHead {
		b.head = res.Header
	}
	return res, err
}

// count has out tell how much of the body was read, also when it is sent again
// below.
func (b *binding) count(req *http.Request) {
	out, again := b.out, req.GetBody
	req.Body = &countedBody{ReadCloser: req.Body, most: out}
	if again == nil {
		return
	}
	req.GetBody = func() (io.ReadCloser, error) {
		body, err := again()
		return &countedBody{ReadCloser: body, most: out}, err
	}
}

// A countedBody keeps most at the most that any of the bodies that share it has
// given. They are read one after the other.
type countedBody struct {
	io.ReadCloser
	n    int64
	most *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	b.most.Store(max(b.most.Load(), b.n))
	return n, err
}

// oneURL is a go-tus store of one upload, whose URL follows from its name.
type oneURL string

func (s oneURL) Get(string) (string, bool) { return string(s), true }
func (oneURL) Set(string, string)          {}
func (oneURL) Delete(string)               {}
func (oneURL) Close()                      {}
