// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/lirios/ostree-upload/test/must"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	ts "github.com/lirios/ostree-upload/test/server"
)

// taken is how a token can lose its right, and the status that its requests then
// get.
var taken = map[string]struct {
	status int
	change func(*config.Config)
}{
	"removed": {401, func(c *config.Config) { c.Tokens = c.Tokens[1:] }},
	"expired": {401, func(c *config.Config) { c.Tokens[0].Expires = c.Tokens[0].Created }},
	"no push": {403, func(c *config.Config) { c.Tokens[0].Scopes = []string{} }},
	"no such": {403, func(c *config.Config) { c.Tokens[0].Refs = &[]string{"other/**"} }},
	// The name is another token's now; a session of a name that is gone is inherited.
	"another name": {404, func(c *config.Config) {
		_, heir := token.Generate(token.Options{Name: c.Tokens[0].Name})
		c.Tokens[0].Name = "ci-2"
		c.Tokens = append(c.Tokens, heir)
	}},
}

// A token that loses its right loses it in the middle of an upload: the request
// ends although its body does not, what had arrived is kept, and nothing more can be
// sent.
func TestRevokedInAnUpload(t *testing.T) {
	_, commit := source(t)
	for name, how := range taken {
		t.Run(name, func(t *testing.T) {
			s := ts.Start(t, "archive")
			c := s.Client(s.Token)
			session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
			c.Create(1000, ts.Metadata("session", session.ID, "pack", "p"))
			body, sender := io.Pipe()
			defer sender.Close()
			go func() {
				_, _ = sender.Write(make([]byte, 10))
				for c.Session(session.ID).Bytes.Received < 10 {
				}
				s.Change(how.change)
			}()
			if got := patch(t, s, s.Token, session.ID, body); got != how.status {
				t.Errorf("the upload is answered %d, want %d", got, how.status)
			}
			if a := c.Patch(session.ID, "p", 10, make([]byte, 990)); a.Status != how.status {
				t.Errorf("the next request is answered %d", a.Status)
			}
			if got := s.Client(s.Admin).Session(session.ID).Bytes.Received; got != 10 {
				t.Errorf("%d bytes are kept", got)
			}
		})
	}
}

// patch sends the bytes of body to the upload p of a session and returns the status of
// the answer, which may come before all bytes are sent.
func patch(t *testing.T, s *ts.Server, token, session string, body io.Reader) int {
	t.Helper()
	req, err := http.NewRequest("PATCH", s.URL+"/files/"+session+"/p", body)
	must.OK(t, err)
	req.ContentLength = 1000
	for k, v := range map[string]string{"Authorization": "Bearer " + token, "Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"} {
		req.Header.Set(k, v)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	must.OK(t, err)
	defer res.Body.Close()
	return res.StatusCode
}

// So does one that waits for an outcome.
func TestRevokedInAWait(t *testing.T) {
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	session := c.Open(many("x", 1)...)
	answer := make(chan ts.Answer)
	go func() { answer <- c.Do("GET", "/api/v1/sessions/"+session.ID+"?wait=60s", nil) }()
	s.Change(taken["removed"].change)
	if a := <-answer; a.Status != 401 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// A session that is ready to be published is not once its token has lost its right:
// each request about it is refused, and it stays as it is.
func TestRevokedBeforeFinalize(t *testing.T) {
	repo, commit := source(t)
	for name, how := range taken {
		t.Run(name, func(t *testing.T) {
			s := ts.Start(t, "archive")
			c := s.Client(s.Token)
			session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
			lacking := c.Negotiate(session.ID, ts.Objects(t, repo, commit)...)
			c.Upload(session.ID, "all", ts.Pack(t, repo, lacking...))
			s.Change(how.change)
			at := "/api/v1/sessions/" + session.ID
			c.Want(how.status, "POST", at+"/finalize", nil)
			c.Want(how.status, "POST", at+"/objects", wire.FormatNames(lacking))
			c.Want(how.status, "POST", at+"/salvage", nil)
			if a := c.Create(10, ts.Metadata("session", session.ID, "pack", "p")); a.Status != how.status {
				t.Errorf("an upload is answered %d", a.Status)
			}
			if got := s.Client(s.Admin).Session(session.ID); got.State != wire.Open || s.Ref("x") != "" {
				t.Errorf("the session is %s, the ref at %q", got.State, s.Ref("x"))
			}
		})
	}
}
