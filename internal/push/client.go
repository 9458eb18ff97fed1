// SPDX-License-Identifier: AGPL-3.0-or-later

package push

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
	"strconv"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// maxAnswer bounds what is read of one answer, inflated: a list of sessions is
// the largest that a server has reason to send.
const maxAnswer = 64 << 20

// workStall is how long a request may stay silent where the server answers only
// after work of its own, such as the ingest of what has arrived.
const workStall = 3 * time.Minute

// A Client speaks the API of one server. Its methods try once and return
// *wire.Problem (by errors.As) for what the server refused and *url.Error for
// what the network did.
type Client struct {
	base      *url.URL // without a slash at the end
	transport *transport
	http      *http.Client
}

// NewClient returns the client of the server at address: http or https, a host,
// and a path if a proxy puts the server below one.
func NewClient(address, token string) (*Client, error) {
	base, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	// From a file or a shell it may come with a line's end or a BOM.
	token = strings.TrimSpace(strings.TrimPrefix(token, "\ufeff"))
	if strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return nil, &Error{Exit: ExitUsage, Code: wire.BadRequest, Err: errors.New("the token has characters that no token has")}
	}
	t := newTransport(base, token)
	return &Client{base: base, transport: t, http: &http.Client{Transport: t}}, nil
}

func parseAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, &Error{
			Exit: ExitUsage, Code: wire.BadRequest,
			Err:      fmt.Errorf("%q is not the address of a server", address),
			HintText: "give it like https://updates.example.org",
		}
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return nil, &Error{Exit: ExitUsage, Code: wire.BadRequest, Err: fmt.Errorf("%q has no port from 1 to 65535", address)}
		}
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.User != nil {
		return nil, &Error{
			Exit: ExitUsage, Code: wire.BadRequest,
			Err:      fmt.Errorf("the address of the server at %s has more than a host and a path", u.Host),
			HintText: "leave out user, query and fragment; the token has its own option",
		}
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return u, nil
}

// Address is the server's address, without a slash at the end.
func (c *Client) Address() string { return c.base.String() }

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Info asks for the server's version and limits.
func (c *Client) Info(ctx context.Context) (info wire.Info, err error) {
	err = c.json(ctx, request{path: "api/v1/info"}, &info)
	return info, err
}

// Refs asks for the refs that the token may push, by name.
func (c *Client) Refs(ctx context.Context) (map[string]wire.RefState, error) {
	var list wire.RefList
	err := c.json(ctx, request{path: "api/v1/refs"}, &list)
	return list.Refs, err
}

// CommitMeta fetches the detached metadata of a commit.
func (c *Client) CommitMeta(ctx context.Context, commit ostree.Checksum) ([]byte, error) {
	r := request{path: "api/v1/commitmeta/" + commit.String(), max: ostree.MaxCommitMeta}
	b, err := c.bytes(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := ostree.ParseCommitMeta(b); err != nil {
		return nil, c.alien(r, b, err)
	}
	return b, nil
}

// OpenSession opens a session for refs.
func (c *Client) OpenSession(ctx context.Context, open wire.OpenRequest) (s wire.Session, err error) {
	body, err := json.Marshal(open)
	if err != nil {
		return s, err
	}
	return c.session(ctx, request{method: http.MethodPost, path: "api/v1/sessions", body: body, kind: "application/json"})
}

// Sessions lists the sessions in a state, or all for "", newest first.
func (c *Client) Sessions(ctx context.Context, state string) ([]wire.Session, error) {
	query := url.Values{}
	if state != "" {
		query.Set("state", state)
	}
	return c.list(ctx, query)
}

// OwnSessions is Sessions without those of other tokens, which this one may see.
func (c *Client) OwnSessions(ctx context.Context, state string) ([]wire.Session, error) {
	return c.list(ctx, url.Values{"state": {state}, "mine": {"1"}})
}

func (c *Client) list(ctx context.Context, query url.Values) ([]wire.Session, error) {
	var list wire.SessionList
	err := c.json(ctx, request{path: "api/v1/sessions", query: query}, &list)
	return list.Sessions, err
}

// Session asks for one session. With wait > 0 the answer comes at the session's
// next change of state, or after wait.
func (c *Client) Session(ctx context.Context, id string, wait time.Duration) (wire.Session, error) {
	r := request{path: sessionPath(id)}
	if wait > 0 {
		r.query = url.Values{"wait": {wait.String()}}
		r.stall = wait + defaultStall
	}
	return c.session(ctx, r)
}

// Abort ends a session; what it staged is dropped.
func (c *Client) Abort(ctx context.Context, id string) (wire.Session, error) {
	r := request{method: http.MethodDelete, path: sessionPath(id)}
	b, err := c.bytes(ctx, r)
	if err != nil {
		return wire.Session{}, err
	}
	if len(b) == 0 { // 204: ask how it stands now
		return c.Session(ctx, id, 0)
	}
	return c.parseSession(r, b)
}

// Negotiate adds names to the session's set, at most wire.MaxNames, and returns
// those that the server still lacks. It waits for the ingest of what arrived.
func (c *Client) Negotiate(ctx context.Context, id string, names []ostree.Name) ([]ostree.Name, error) {
	body, err := deflated(wire.FormatNames(names))
	if err != nil {
		return nil, err
	}
	r := request{
		method: http.MethodPost, path: sessionPath(id) + "/objects",
		body: body, kind: "text/plain", gzip: true, stall: workStall, max: wire.MaxBody,
	}
	answer, err := c.bytes(ctx, r)
	if err != nil {
		return nil, err
	}
	lacking, err := wire.ParseNames(bytes.NewReader(answer), wire.MaxNames)
	if err != nil {
		return nil, c.alien(r, answer, err)
	}
	return lacking, nil
}

// Salvage has the server keep the whole objects of the session's unfinished
// packs and drop the rest of those packs.
func (c *Client) Salvage(ctx context.Context, id string) error {
	_, err := c.bytes(ctx, request{method: http.MethodPost, path: sessionPath(id) + "/salvage", stall: workStall})
	return err
}

// Finalize starts verification and publishing; the outcome comes to be in the
// session.
func (c *Client) Finalize(ctx context.Context, id string) (wire.Session, error) {
	return c.session(ctx, request{method: http.MethodPost, path: sessionPath(id) + "/finalize", stall: workStall})
}

// Terminate drops an upload and its bytes, so that it can be created again.
func (c *Client) Terminate(ctx context.Context, id, upload string) error {
	_, err := c.bytes(ctx, request{method: http.MethodDelete, path: uploadPath(id, upload), tus: true})
	return err
}

func sessionPath(id string) string { return "api/v1/sessions/" + url.PathEscape(id) }

func uploadPath(id, upload string) string {
	return "files/" + url.PathEscape(id) + "/" + url.PathEscape(upload)
}

// url is where path is, below the address that the user gave.
func (c *Client) url(path string) string { return c.base.String() + "/" + path }

// A request is what differs between the calls.
type request struct {
	method string // GET if empty
	path   string
	query  url.Values
	body   []byte
	kind   string // Content-Type
	gzip   bool   // body is gzip
	tus    bool
	stall  time.Duration // silence to bear; 0: defaultStall
	max    int64         // most bytes of the answer; 0: maxAnswer
}

func (c *Client) json(ctx context.Context, r request, out any) error {
	b, err := c.bytes(ctx, r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return c.alien(r, b, err)
	}
	return nil
}

// session is json for the requests that a session answers.
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
		err = fmt.Errorf("it names a session %q", s.ID)
	}
	if err != nil {
		return wire.Session{}, c.alien(r, b, err)
	}
	return s, nil
}

// errAlien is for a success that makes no sense: a proxy's or a portal's, most
// likely.
var errAlien = errors.New("no ostree-upload server answers so")

// alien is the error of an answer that was understood as far as err. What it
// says is left out: it may repeat the request, and so the token.
func (c *Client) alien(r request, answer []byte, err error) error {
	kind, _, _ := mime.ParseMediaType(http.DetectContentType(answer)) // of our own making
	return fmt.Errorf("%s answers %s %s/%s with %d bytes of %s: %w: %w",
		c.base.Host, cmp.Or(r.method, http.MethodGet), c.base.Path, r.path, len(answer), kind, errAlien, err)
}

// bytes sends r and reads the whole answer.
func (c *Client) bytes(ctx context.Context, r request) ([]byte, error) {
	req, err := c.request(ctx, r)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, plain(err)
	}
	defer res.Body.Close()
	limit := r.max
	if limit == 0 {
		limit = maxAnswer
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil { // the connection broke: a network error, as from Do
		return nil, &url.Error{Op: req.Method, URL: req.URL.String(), Err: err}
	}
	if int64(len(b)) > limit {
		return nil, c.alien(r, b, fmt.Errorf("there may be at most %d", limit))
	}
	return b, nil
}

func (c *Client) request(ctx context.Context, r request) (*http.Request, error) {
	target := c.url(r.path)
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(withStall(ctx, r.stall), r.method, target, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	if r.kind != "" {
		req.Header.Set("Content-Type", r.kind)
	}
	if r.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	if r.tus {
		req.Header.Set("Tus-Resumable", "1.0.0")
	}
	return req, nil
}

// plain takes the server's answer out of what http.Client wraps around it, so
// that people read what the server said and not the method and the URL.
func plain(err error) error {
	var answer *answerError
	if errors.As(err, &answer) {
		return answer
	}
	return err
}

func deflated(b []byte) ([]byte, error) {
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
