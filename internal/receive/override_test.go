// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"strconv"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	ts "github.com/lirios/ostree-upload/test/server"
)

const override = wire.OverrideHeader

// A whole push with GET and POST alone: HEAD, PATCH and DELETE travel in the header.
func TestPushByPost(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	pack := ts.Pack(t, repo, c.Negotiate(session.ID, ts.Objects(t, repo, commit)...)...)
	post := func(status int, method, path string, body []byte, headers ...string) ts.Answer {
		t.Helper()
		return c.Want(status, "POST", path, body, append(headers, override, method, "Tus-Resumable", "1.0.0")...)
	}
	send := func(name string, from, to int) {
		t.Helper()
		post(204, "PATCH", "/files/"+session.ID+"/"+name, pack[from:to],
			"Content-Type", "application/offset+octet-stream", "Upload-Offset", strconv.Itoa(from))
	}
	for _, name := range []string{"one", "two"} {
		c.Create(len(pack), ts.Metadata("session", session.ID, "pack", name))
		send(name, 0, 100)
	}
	if got := post(200, "HEAD", "/files/"+session.ID+"/one", nil).Header.Get("Upload-Offset"); got != "100" {
		t.Errorf("offset %q", got)
	}
	post(404, "HEAD", "/files/"+session.ID+"/three", nil)
	post(204, "DELETE", "/files/"+session.ID+"/one", nil)
	if c.Offset(session.ID, "one") != -1 {
		t.Error("the upload is still there")
	}
	send("two", 100, len(pack))
	if got := c.Finalize(session.ID); got.State != wire.Published {
		t.Errorf("%+v", got)
	}
	other := c.Open(wire.Ref{Ref: "y", New: commit.String()})
	post(200, "DELETE", "/api/v1/sessions/"+other.ID, nil)
	if got := c.Session(other.ID); got.State != wire.Aborted {
		t.Errorf("session %s", got.State)
	}
}

// The header makes a POST what the method itself would be, to each token, and nothing
// else: no other method, and of no other request.
func TestOverrideIsTheMethod(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	owner := s.Client(s.Token)
	session := owner.Open(wire.Ref{Ref: "x", New: commit.String()})
	owner.Negotiate(session.ID, ts.Objects(t, repo, commit)[0])
	owner.Create(100, ts.Metadata("session", session.ID, "pack", "p"))
	upload := "/files/" + session.ID + "/p"
	tokens := map[string]*ts.Client{"nobody": s.Client(""), "another": s.Client(s.Other), "an admin": s.Client(s.Admin)}
	for who, c := range tokens {
		for _, path := range []string{upload, "/files/", "/api/v1/info", "/api/v1/sessions/aaaaaaaaaaaaaaaa", "/nothing"} {
			for _, method := range []string{"PATCH", "DELETE", "HEAD"} {
				plain := c.Do(method, path, nil, "Tus-Resumable", "1.0.0")
				posted := c.Do("POST", path, nil, "Tus-Resumable", "1.0.0", override, method)
				if plain.Status != posted.Status || plain.Status < 400 && path != "/api/v1/info" {
					t.Errorf("%s: %s %s is %d, as a POST %d", who, method, path, plain.Status, posted.Status)
				}
			}
		}
	}
	for _, c := range []struct {
		method, path, override string
		status                 int
	}{
		{"POST", "/api/v1/info", "GET", 405},
		{"POST", upload, "PUT", 405},
		{"POST", upload, "patch", 405},
		{"POST", upload, "", 405},
		{"GET", upload, "DELETE", 405},
		{"HEAD", upload, "DELETE", 200},
		{"PUT", upload, "DELETE", 405},
		{"GET", "/api/v1/sessions/" + session.ID, "DELETE", 200},
	} {
		owner.Want(c.status, c.method, c.path, nil, override, c.override, "Tus-Resumable", "1.0.0")
	}
	if owner.Offset(session.ID, "p") != 0 || owner.Session(session.ID).State != wire.Open {
		t.Error("a request that was refused did something")
	}
}

// The answer to a wrong method lists the right ones.
func TestAllowedMethods(t *testing.T) {
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	for path, allow := range map[string]string{
		"/healthz":     "GET, HEAD",
		"/api/v1/info": "GET, HEAD",
		"/api/v1/refs": "GET, HEAD",
		"/api/v1/commitmeta/" + (ostree.Checksum{}).String(): "GET, HEAD",
		"/api/v1/objects":                            "POST",
		"/api/v1/sessions":                           "GET, HEAD, POST",
		"/api/v1/sessions/aaaaaaaaaaaaaaaa":          "GET, HEAD, DELETE",
		"/api/v1/sessions/aaaaaaaaaaaaaaaa/objects":  "POST",
		"/api/v1/sessions/aaaaaaaaaaaaaaaa/salvage":  "POST",
		"/api/v1/sessions/aaaaaaaaaaaaaaaa/finalize": "POST",
		"/files/":                   "POST, OPTIONS",
		"/files/aaaaaaaaaaaaaaaa/p": "HEAD, PATCH, DELETE, OPTIONS",
	} {
		a := c.Want(405, "PUT", path, nil)
		if got := a.Header.Get("Allow"); got != allow || a.Problem(t).Code() != wire.BadRequest {
			t.Errorf("%s allows %q, want %q", path, got, allow)
		}
	}
	c.Want(404, "PUT", "/files/aaaaaaaaaaaaaaaa/p/q", nil)
}

// Requests have the path that a proxy adds, or come past it.
func TestBasePath(t *testing.T) {
	_, commit := source(t)
	s := ts.Start(t, "archive")
	s.Change(func(c *config.Config) { c.BasePath = "/some/prefix" })
	c := s.Client(s.Token)
	for path, status := range map[string]int{
		"/some/prefix/api/v1/info": 200, "/api/v1/info": 200, "/some/prefix/healthz": 200, "/healthz": 200,
		"/some/prefix": 404, "/some/prefix/": 404, "/some/prefixapi/v1/info": 404, "/some/api/v1/info": 404,
		"/some/prefix/some/prefix/api/v1/info": 404, "/some/prefix/../prefix/api/v1/info": 404, "/some/prefix//api/v1/info": 404,
		"/some/prefix/api%2Fv1/info": 200, "/some%2Fprefix/api/v1/info": 200,
	} {
		c.Want(status, "GET", path, nil)
	}
	s.Client("").Want(401, "GET", "/some/prefix/api/v1/info", nil)
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	a := c.Want(201, "POST", "/some/prefix/files/", nil, "Tus-Resumable", "1.0.0", "Upload-Length", "100", "Upload-Metadata", ts.Metadata("session", session.ID, "pack", "p"))
	upload := "/some/prefix/files/" + session.ID + "/p"
	if got := resolve(t, "https://host/some/prefix/files/", a.Header.Get("Location")); got != "https://host"+upload {
		t.Errorf("Location leads to %s", got)
	}
	c.Want(204, "POST", upload, make([]byte, 10), override, "PATCH", "Tus-Resumable", "1.0.0", "Upload-Offset", "0", "Content-Type", "application/offset+octet-stream")
	c.Want(200, "HEAD", upload, nil, "Tus-Resumable", "1.0.0")
}
