// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// workStall is how long a request may stay silent where the server answers only
// after work of its own, such as the ingest of what has arrived.
const workStall = 3 * time.Minute

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

// RefQuery says which refs are listed, and with what.
type RefQuery struct {
	Glob  string // "": all
	All   bool   // also those that the token may not move, if it may promote
	Moved bool   // with their last moves
	After string // those whose names come after this one
	Limit int    // 0: all
}

// ListRefs asks for refs, in one request.
func (c *Client) ListRefs(ctx context.Context, q RefQuery) (list wire.RefList, err error) {
	query := url.Values{}
	if q.Glob != "" {
		query.Set("glob", q.Glob)
	}
	if q.All {
		query.Set("all", "1")
	}
	if q.Moved {
		query.Set("moved", "1")
	}
	if q.After != "" {
		query.Set("after", q.After)
	}
	if q.Limit > 0 {
		query.Set("limit", strconv.Itoa(q.Limit))
	}
	err = c.json(ctx, request{path: "api/v1/refs", query: query}, &list)
	return list, err
}

// RefLog asks for the moves of a ref before a session, the newest first, at most so many.
func (c *Client) RefLog(ctx context.Context, ref, before string, limit int) (log wire.RefLog, err error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if before != "" {
		query.Set("before", before)
	}
	// ref has the characters of a ref's name alone, and its slashes are those of the path.
	err = c.json(ctx, request{path: "api/v1/refs/" + ref + "/log", query: query}, &log)
	return log, err
}

// CommitMeta fetches the detached metadata of a commit.
func (c *Client) CommitMeta(ctx context.Context, commit ostree.Checksum) ([]byte, error) {
	r := request{path: "api/v1/commitmeta/" + commit.String(), max: ostree.MaxCommitMeta}
	b, err := c.bytes(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := ostree.ParseCommitMeta(b); err != nil {
		return nil, c.badAnswer(r, b, err)
	}
	return b, nil
}

// OpenSession opens a session for refs.
func (c *Client) OpenSession(ctx context.Context, open wire.OpenRequest) (s wire.Session, err error) {
	body, err := json.Marshal(open)
	if err != nil {
		return s, err
	}
	return c.session(ctx, request{method: http.MethodPost, path: "api/v1/sessions", body: body, contentType: "application/json"})
}

// CheckOpen asks whether the server would open a session, and opens none.
func (c *Client) CheckOpen(ctx context.Context, open wire.OpenRequest) error {
	open.DryRun = true
	body, err := json.Marshal(open)
	if err != nil {
		return err
	}
	_, err = c.bytes(ctx, request{method: http.MethodPost, path: "api/v1/sessions", body: body, contentType: "application/json"})
	return err
}

// Sessions lists the sessions in a state, or all for "", newest first.
func (c *Client) Sessions(ctx context.Context, state string) ([]wire.Session, error) {
	return c.NewestSessions(ctx, state, 0)
}

// NewestSessions lists the newest sessions in a state, or of all for "", at most so many;
// 0 for all.
func (c *Client) NewestSessions(ctx context.Context, state string, most int) ([]wire.Session, error) {
	query := url.Values{}
	if state != "" {
		query.Set("state", state)
	}
	return c.list(ctx, query, most)
}

// OwnSessions lists the sessions of this token alone, also if it may see others,
// that are in a state and for exactly these moves (wire.OpenRequest.Moves). A server that
// knows no moves lists others, too.
func (c *Client) OwnSessions(ctx context.Context, state, moves string) ([]wire.Session, error) {
	return c.list(ctx, url.Values{"state": {state}, "mine": {"1"}, "moves": {moves}}, 0)
}

// maxPages bounds how many pages of a list are read: no server has so many.
const maxPages = 1000

// list reads the pages of a list, up to so many sessions; 0 for all.
func (c *Client) list(ctx context.Context, query url.Values, most int) (all []wire.Session, err error) {
	r := request{path: "api/v1/sessions", query: query}
	for range maxPages {
		limit := wire.MaxPage
		if most > 0 {
			limit = min(limit, most-len(all))
		}
		query.Set("limit", strconv.Itoa(limit))
		var page wire.SessionList
		if err := c.json(ctx, r, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Sessions...)
		if page.Next == "" || most > 0 && len(all) >= most {
			return all, nil
		}
		query.Set("before", page.Next)
	}
	return nil, c.badAnswer(r, nil, fmt.Errorf("the list does not end after %d pages", maxPages))
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
	if len(b) == 0 { // 204: ask for its state now
		return c.Session(ctx, id, 0)
	}
	return c.parseSession(r, b)
}

// SetOwner has a session belong to the token of a name.
func (c *Client) SetOwner(ctx context.Context, id, token string) (wire.Session, error) {
	body, err := json.Marshal(wire.OwnerRequest{Token: token})
	if err != nil {
		return wire.Session{}, err
	}
	return c.session(ctx, request{method: http.MethodPost, path: sessionPath(id) + "/owner", body: body, contentType: "application/json"})
}

// Publish has a held session published. It shows the outcome later.
func (c *Client) Publish(ctx context.Context, id string) (wire.Session, error) {
	return c.session(ctx, request{method: http.MethodPost, path: sessionPath(id) + "/publish"})
}

// Reject ends a held session.
func (c *Client) Reject(ctx context.Context, id, reason string) (wire.Session, error) {
	body, err := json.Marshal(wire.Rejection{Reason: reason})
	if err != nil {
		return wire.Session{}, err
	}
	return c.session(ctx, request{method: http.MethodPost, path: sessionPath(id) + "/reject", body: body, contentType: "application/json"})
}

// Negotiate adds names to the session's set, at most wire.MaxNames, and returns
// those that the server still lacks. It waits for the ingest of what arrived.
func (c *Client) Negotiate(ctx context.Context, id string, names []ostree.Name) ([]ostree.Name, error) {
	return c.lacking(ctx, sessionPath(id)+"/objects", names)
}

// Lacking asks which of names the server lacks, at most wire.MaxNames, without a
// session. Servers of earlier versions cannot tell: they answer 404.
func (c *Client) Lacking(ctx context.Context, names []ostree.Name) ([]ostree.Name, error) {
	return c.lacking(ctx, "api/v1/objects", names)
}

func (c *Client) lacking(ctx context.Context, path string, names []ostree.Name) ([]ostree.Name, error) {
	body, err := gzipped(wire.FormatNames(names))
	if err != nil {
		return nil, err
	}
	r := request{
		method: http.MethodPost, path: path,
		body: body, contentType: "text/plain", gzip: true, answers: "text/plain", stall: workStall, max: wire.MaxBody,
	}
	answer, err := c.bytes(ctx, r)
	if err != nil {
		return nil, err
	}
	lacking, err := wire.ParseNames(bytes.NewReader(answer), wire.MaxNames)
	if err == nil {
		err = amongAsked(lacking, names)
	}
	if err != nil {
		return nil, c.badAnswer(r, answer, err)
	}
	return lacking, nil
}

// amongAsked refuses what nobody asked about: it would be read and sent, and may be a
// part of the repository that is none of the server's business.
func amongAsked(lacking, asked []ostree.Name) error {
	all := make(map[ostree.Name]bool, len(asked))
	for _, n := range asked {
		all[n] = true
	}
	for _, n := range lacking {
		if !all[n] {
			return fmt.Errorf("it lacks %s, which it was not asked about", n)
		}
	}
	return nil
}

// Salvage has the server keep the whole objects of the session's unfinished
// packs and drop the rest of those packs.
func (c *Client) Salvage(ctx context.Context, id string) error {
	_, err := c.session(ctx, request{method: http.MethodPost, path: sessionPath(id) + "/salvage", stall: workStall})
	return err
}

// Finalize starts verification and publishing. The session shows the outcome
// later.
func (c *Client) Finalize(ctx context.Context, id string) (wire.Session, error) {
	return c.session(ctx, request{method: http.MethodPost, path: sessionPath(id) + "/finalize", stall: workStall})
}

// terminate drops an upload and its bytes, so that it can be created again.
func (c *Client) terminate(ctx context.Context, id, upload string) error {
	_, err := c.bytes(ctx, request{method: http.MethodDelete, path: uploadPath(id, upload), tus: true})
	return err
}

func sessionPath(id string) string { return "api/v1/sessions/" + url.PathEscape(id) }

func uploadPath(id, upload string) string {
	return "files/" + url.PathEscape(id) + "/" + url.PathEscape(upload)
}
