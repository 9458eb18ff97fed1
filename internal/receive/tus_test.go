// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A creation whose answer was lost is repeated by clients of tus, which know an
// upload by its Location alone. While nothing has arrived, the same creation is
// answered as the first one; after that, and for another one, with what HEAD tells.
func TestCreatedAgain(t *testing.T) {
	_, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	digest := strings.Repeat("1", 64)
	meta := ts.Metadata("session", session.ID, "pack", "p", "digest", digest)
	create := func(status, length int, meta string, offset string) {
		t.Helper()
		a := c.Create(length, meta)
		if a.Status != status || a.Header.Get("Tus-Resumable") != "1.0.0" {
			t.Fatalf("%d %v %s, want %d", a.Status, a.Header, a.Body, status)
		}
		if status == 409 && a.Problem(t).Code() != wire.Exists {
			t.Errorf("%s", a.Body)
		}
		if got := resolve(t, s.URL+"/prefix/files/", a.Header.Get("Location")); got != s.URL+"/prefix/files/"+session.ID+"/p" {
			t.Errorf("Location %q leads to %s", a.Header.Get("Location"), got)
		}
		if h := a.Header; offset != "" && (h.Get("Upload-Offset") != offset || h.Get("Upload-Length") != "100" || !strings.Contains(h.Get("Upload-Metadata"), "digest ")) {
			t.Errorf("%v, want offset %s", h, offset)
		}
	}
	create(201, 100, meta, "")
	create(201, 100, meta, "0")
	create(409, 101, meta, "0")
	create(409, 100, ts.Metadata("session", session.ID, "pack", "p"), "0")
	if a := c.Patch(session.ID, "p", 0, []byte("0123456789")); a.Status != 204 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	create(409, 100, meta, "10")
	if got := c.Session(session.ID).Uploads; len(got) != 1 || got[0].Offset != 10 {
		t.Errorf("%+v", got)
	}
}

// Location of a session is right for a client that reaches the server below a path.
func TestLocationOfSession(t *testing.T) {
	_, commit := source(t)
	s := ts.Start(t, "archive")
	a := s.Client(s.Token).Want(201, "POST", "/api/v1/sessions", []byte(`{"refs":[{"ref":"x","new":"`+commit.String()+`"}]}`))
	var session wire.Session
	must.OK(t, json.Unmarshal(a.Body, &session))
	if got := resolve(t, "https://host/prefix/api/v1/sessions", a.Header.Get("Location")); got != "https://host/prefix/api/v1/sessions/"+session.ID {
		t.Errorf("Location %q leads to %s", a.Header.Get("Location"), got)
	}
}

func resolve(t *testing.T, base, location string) string {
	t.Helper()
	b, err := url.Parse(base)
	must.OK(t, err)
	u, err := b.Parse(location)
	must.OK(t, err)
	return u.String()
}

// Whatever host and scheme a request claims, Location names none: a client that
// follows it must not send its token elsewhere, or in clear.
func TestLocationNamesNoHost(t *testing.T) {
	_, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	a := c.Want(201, "POST", "/files/", nil, "Tus-Resumable", "1.0.0", "Upload-Length", "10",
		"Upload-Metadata", ts.Metadata("session", session.ID, "pack", "p"),
		"X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "http", "Forwarded", "host=evil.example;proto=http")
	if l := a.Header.Get("Location"); strings.Contains(l, "//") {
		t.Errorf("Location is %q", l)
	}
}

// What a tus server can do is asked before a client has a token.
func TestOptionsWithoutToken(t *testing.T) {
	s := ts.Start(t, "archive")
	a := s.Client("").Do("OPTIONS", "/files/", nil)
	if a.Status >= 300 || a.Header.Get("Tus-Version") != "1.0.0" || !strings.Contains(a.Header.Get("Tus-Extension"), "creation") {
		t.Errorf("%d %v", a.Status, a.Header)
	}
}

// A request with more bytes than the upload has left is answered and closed at
// once, also while its client holds back the rest.
func TestTooLongPatchIsAnsweredAtOnce(t *testing.T) {
	_, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	for name, length := range map[string]string{"length": "Content-Length: 1000", "chunked": "Transfer-Encoding: chunked"} {
		t.Run(name, func(t *testing.T) {
			if a := c.Create(100, ts.Metadata("session", session.ID, "pack", name)); a.Status != 201 {
				t.Fatalf("%d", a.Status)
			}
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
			must.OK(t, err)
			defer conn.Close()
			must.OK(t, conn.SetDeadline(time.Now().Add(45*time.Second))) // net/http would wait for a minute
			body := strings.Repeat("x", 200)
			if name == "chunked" {
				body = "c8\r\n" + body + "\r\n"
			}
			_, err = fmt.Fprintf(conn, "PATCH /files/%s/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTus-Resumable: 1.0.0\r\n"+
				"Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\n%s\r\n\r\n%s", session.ID, name, s.Token, length, body)
			must.OK(t, err)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			must.OK(t, err)
			b, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != 413 || !strings.Contains(string(b), strconv.Itoa(413)) || !res.Close {
				t.Errorf("%s %v %s, %v", res.Status, res.Header, b, err)
			}
		})
	}
}
