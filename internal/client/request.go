// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/wire"
)

// maxAnswer bounds what is read of one answer, inflated: a list of sessions is
// the largest that a server has reason to send.
const maxAnswer = 64 << 20

// A request is what differs between the calls.
type request struct {
	method      string // GET if empty
	path        string
	query       url.Values
	body        []byte
	contentType string
	gzip        bool // body is gzip
	tus         bool
	answers     string        // media type of the answer; empty: any but HTML
	stall       time.Duration // silence to bear; 0: defaultStall
	max         int64         // most bytes of the answer; 0: maxAnswer
}

func (c *Client) json(ctx context.Context, r request, out any) error {
	b, err := c.bytes(ctx, r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return c.badAnswer(r, b, err)
	}
	return nil
}

// session is json for the requests that are answered with a session.
func (c *Client) session(ctx context.Context, r request) (wire.Session, error) {
	b, err := c.bytes(ctx, r)
	if err != nil {
		return wire.Session{}, err
	}
	return c.parseSession(r, b)
}

func (c *Client) parseSession(r request, b []byte) (s wire.Session, err error) {
	err = json.Unmarshal(b, &s)
	if err == nil && !wire.IsSessionID(s.ID) {
		err = fmt.Errorf("its session ID is %q", s.ID)
	}
	if err != nil {
		return wire.Session{}, c.badAnswer(r, b, err)
	}
	return s, nil
}

// badAnswer is the error of a success that cannot be parsed, because of err. The
// answer itself is left out: it may repeat the request, and so the token.
func (c *Client) badAnswer(r request, answer []byte, err error) error {
	contentType, _, _ := mime.ParseMediaType(http.DetectContentType(answer)) // which are always valid
	err = fmt.Errorf("%s answers %s %s/%s with %d bytes of %s: %w: %w",
		c.base.Host, cmp.Or(r.method, http.MethodGet), c.base.Path, r.path, len(answer), contentType, ErrBadAnswer, err)
	return hint.Add(err, pageHint)
}

// bytes sends r and reads the whole answer.
func (c *Client) bytes(ctx context.Context, r request) ([]byte, error) {
	req, err := c.request(ctx, r)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		err = c.unwrapped(err)
		var network *networkError
		if errors.As(err, &network) {
			network.err = c.explainCut(ctx, network.err)
		}
		return nil, err
	}
	defer res.Body.Close()
	limit := r.max
	if limit == 0 {
		limit = maxAnswer
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return nil, &networkError{c.Address(), c.transport.via, err}
	}
	if int64(len(b)) > limit {
		return nil, c.badAnswer(r, b, fmt.Errorf("it is longer than %d bytes", limit))
	}
	if got := mediaType(res.Header); r.answers != "" && got != r.answers {
		return nil, c.badAnswer(r, b, fmt.Errorf("it is %q and not %s", got, r.answers))
	}
	return b, nil
}

func (c *Client) request(ctx context.Context, r request) (*http.Request, error) {
	target := c.url(r.path)
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(WithStall(ctx, r.stall), r.method, target, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	if r.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	if r.tus {
		req.Header.Set("Tus-Resumable", "1.0.0")
	}
	return req, nil
}

func gzipped(b []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
