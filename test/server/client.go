// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
)

// Client speaks the protocol as docs/protocol.md tells it, without the code of
// the real client, so that the two cannot be wrong together.
type Client struct {
	t         testing.TB
	base      string
	token     string
	transport http.RoundTripper
}

// Client makes a client with a token.
func (s *Server) Client(token string) *Client { return NewClient(s.t, s.URL, token) }

// NewClient makes a client of the server at an address such as http://host:80.
func NewClient(t testing.TB, address, token string) *Client {
	return &Client{t, address, token, http.DefaultTransport}
}

// In is the client within a test of its own, such as a subtest.
func (c *Client) In(t testing.TB) *Client { return &Client{t, c.base, c.token, c.transport} }

// Over is the client with connections of its own kind.
func (c *Client) Over(transport http.RoundTripper) *Client {
	return &Client{c.t, c.base, c.token, transport}
}

// Answer is a response, read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Problem reads the answer as one.
func (a Answer) Problem(t testing.TB) *wire.Problem {
	t.Helper()
	p := new(wire.Problem)
	if a.Header.Get("Content-Type") != wire.ProblemType {
		t.Fatalf("status %d, content type %q: %s", a.Status, a.Header.Get("Content-Type"), a.Body)
	}
	must.OK(t, json.Unmarshal(a.Body, p))
	return p
}

// Do sends a request. Headers come in pairs.
func (c *Client) Do(method, path string, body []byte, headers ...string) Answer {
	c.t.Helper()
	a, err := c.Try(method, path, body, headers...)
	must.OK(c.t, err)
	return a
}

// Try is Do for a server that may be gone.
func (c *Client) Try(method, path string, body []byte, headers ...string) (a Answer, err error) {
	return c.TryReader(method, path, bytes.NewReader(body), headers...)
}

// TryReader is Try for a body that is read.
func (c *Client) TryReader(method, path string, body io.Reader, headers ...string) (a Answer, err error) {
	req, err := http.NewRequest(method, c.base+path, body)
	if err != nil {
		return a, err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	// No redirect is followed: none must ever be sent.
	res, err := c.transport.RoundTrip(req)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return Answer{res.StatusCode, res.Header, b}, err
}

// Want is Do for a request that must get this status.
func (c *Client) Want(status int, method, path string, body []byte, headers ...string) Answer {
	c.t.Helper()
	a := c.Do(method, path, body, headers...)
	if a.Status != status {
		c.t.Fatalf("%s %s: status %d, want %d: %s", method, path, a.Status, status, a.Body)
	}
	return a
}

// Open opens a session for refs.
func (c *Client) Open(refs ...wire.Ref) wire.Session {
	c.t.Helper()
	return c.open(wire.OpenRequest{Refs: refs})
}

// Promote opens a session that brings nothing, and finalizes it.
func (c *Client) Promote(force bool, refs ...wire.Ref) wire.Session {
	c.t.Helper()
	return c.Finalize(c.open(wire.OpenRequest{Refs: refs, Force: force, Promote: true}).ID)
}

// TryOpen asks for a session, and returns the answer.
func (c *Client) TryOpen(req wire.OpenRequest) Answer {
	c.t.Helper()
	b, err := json.Marshal(req)
	must.OK(c.t, err)
	return c.Do("POST", "/api/v1/sessions", b)
}

// OpenRepair opens a session that is to repair.
func (c *Client) OpenRepair(refs ...wire.Ref) wire.Session {
	c.t.Helper()
	return c.open(wire.OpenRequest{Refs: refs, Repair: true})
}

func (c *Client) open(req wire.OpenRequest) wire.Session {
	c.t.Helper()
	b, err := json.Marshal(req)
	must.OK(c.t, err)
	return c.session(c.Want(201, "POST", "/api/v1/sessions", b))
}

// Session gets a session as it is now.
func (c *Client) Session(id string) wire.Session {
	c.t.Helper()
	return c.session(c.Want(200, "GET", "/api/v1/sessions/"+id, nil))
}

func (c *Client) session(a Answer) (s wire.Session) {
	c.t.Helper()
	must.OK(c.t, json.Unmarshal(a.Body, &s))
	return s
}

// Negotiate announces names and returns those that the server lacks.
func (c *Client) Negotiate(id string, names ...ostree.Name) []ostree.Name {
	c.t.Helper()
	a := c.Want(200, "POST", "/api/v1/sessions/"+id+"/objects", wire.FormatNames(names), "Content-Type", "text/plain")
	lacking, err := wire.ParseNames(bytes.NewReader(a.Body), wire.MaxNames)
	must.OK(c.t, err)
	return lacking
}

// Metadata makes an Upload-Metadata header of pairs.
func Metadata(pairs ...string) string {
	var parts []string
	for i := 0; i < len(pairs); i += 2 {
		parts = append(parts, pairs[i]+" "+base64.StdEncoding.EncodeToString([]byte(pairs[i+1])))
	}
	return strings.Join(parts, ",")
}

// Create creates an upload and returns the answer, whatever it is.
func (c *Client) Create(length int, metadata string) Answer {
	c.t.Helper()
	return c.Do("POST", "/files/", nil, "Tus-Resumable", "1.0.0",
		"Upload-Length", strconv.Itoa(length), "Upload-Metadata", metadata)
}

// Patch sends bytes from an offset and returns the answer.
func (c *Client) Patch(id, name string, offset int, b []byte) Answer {
	c.t.Helper()
	return c.Do("PATCH", "/files/"+id+"/"+name, b, "Tus-Resumable", "1.0.0",
		"Content-Type", "application/offset+octet-stream", "Upload-Offset", strconv.Itoa(offset))
}

// Offset asks how far an upload has come; -1 if there is none.
func (c *Client) Offset(id, name string) int {
	c.t.Helper()
	a := c.Do("HEAD", "/files/"+id+"/"+name, nil, "Tus-Resumable", "1.0.0")
	if a.Status == 404 {
		return -1
	}
	n, err := strconv.Atoi(a.Header.Get("Upload-Offset"))
	must.OK(c.t, err)
	return n
}

// Upload sends b as the upload of one object or, if name is no object's, of a
// pack.
func (c *Client) Upload(id, name string, b []byte) {
	c.t.Helper()
	kind := "object"
	if wire.IsPackName(name) {
		kind = "pack"
	}
	if a := c.Create(len(b), Metadata("session", id, kind, name)); a.Status != 201 {
		c.t.Fatalf("create upload %s: %d %s", name, a.Status, a.Body)
	}
	if a := c.Patch(id, name, 0, b); a.Status != 204 {
		c.t.Fatalf("upload %s: %d %s", name, a.Status, a.Body)
	}
}

// Pack frames objects read from an archive repository.
func Pack(t testing.TB, repo string, names ...ostree.Name) []byte {
	t.Helper()
	b := []byte(wire.PackMagic)
	for _, n := range names {
		object := Object(t, repo, n)
		b = append(wire.AppendFrameHeader(b, n, int64(len(object))), object...)
	}
	return b
}

// Objects lists all that a commit needs.
func Objects(t testing.TB, repo string, commits ...ostree.Checksum) (names []ostree.Name) {
	t.Helper()
	r, err := ostree.OpenRepo(repo)
	must.OK(t, err)
	must.OK(t, r.Walk(t.Context(), commits, ostree.WalkOptions{}, func(n ostree.Name) error {
		names = append(names, n)
		return nil
	}))
	return names
}

// Finalize asks for the outcome of a session and waits for it.
func (c *Client) Finalize(id string) wire.Session {
	c.t.Helper()
	c.Want(202, "POST", "/api/v1/sessions/"+id+"/finalize", nil)
	return c.Settled(id)
}

// Settled waits until nothing is done with a session.
func (c *Client) Settled(id string) wire.Session {
	c.t.Helper()
	var s wire.Session
	must.Wait(c.t, "session "+id+" has an outcome", func() bool {
		s = c.session(c.Want(200, "GET", "/api/v1/sessions/"+id+"?wait=30s", nil))
		return s.State != wire.Verifying && s.State != wire.Publishing
	})
	return s
}

// Wait gets a session after its next change of state, or some seconds.
func (c *Client) Wait(id string) wire.Session {
	c.t.Helper()
	return c.session(c.Want(200, "GET", "/api/v1/sessions/"+id+"?wait=10s", nil))
}

// Push sends a commit in one pack and publishes it, and returns the session.
func (c *Client) Push(repo string, ref wire.Ref) wire.Session {
	c.t.Helper()
	return c.push(repo, wire.OpenRequest{Refs: []wire.Ref{ref}})
}

// PushForced is Push with force.
func (c *Client) PushForced(repo string, ref wire.Ref) wire.Session {
	c.t.Helper()
	return c.push(repo, wire.OpenRequest{Refs: []wire.Ref{ref}, Force: true})
}

// Hold is Push for a session that is held.
func (c *Client) Hold(repo string, ref wire.Ref) wire.Session {
	c.t.Helper()
	return c.push(repo, wire.OpenRequest{Refs: []wire.Ref{ref}, Hold: true})
}

func (c *Client) push(repo string, req wire.OpenRequest) wire.Session {
	c.t.Helper()
	commit, err := ostree.ParseChecksum(req.Refs[0].New)
	must.OK(c.t, err)
	s := c.open(req)
	if lacking := c.Negotiate(s.ID, Objects(c.t, repo, commit)...); len(lacking) > 0 {
		c.Upload(s.ID, "all", Pack(c.t, repo, lacking...))
	}
	return c.Finalize(s.ID)
}
