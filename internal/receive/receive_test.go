// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

func source(t *testing.T) (repo string, commit ostree.Checksum) {
	repo = filepath.Join(t.TempDir(), "build")
	return repo, ts.Commit(t, repo, "main", "one", 20)
}

// A stranger who follows the protocol's page publishes a commit: in a pack, and
// each object alone.
func TestPush(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	for _, ref := range []string{"a", "b"} {
		if got := c.Push(repo, wire.Ref{Ref: ref, New: commit.String()}); got.State != wire.Published {
			t.Fatalf("session %+v", got)
		}
	}
	two := ts.Commit(t, repo, "main", "two", 20)
	session := c.Open(wire.Ref{Ref: "a", Old: commit.String(), New: two.String()})
	lacking := c.Negotiate(session.ID, ts.Objects(t, repo, two)...)
	for _, n := range lacking {
		c.Upload(session.ID, n.String(), ts.Object(t, repo, n))
	}
	if got := c.Finalize(session.ID); got.State != wire.Published || s.Ref("a") != two.String() {
		t.Fatalf("session %+v, ref at %s", got, s.Ref("a"))
	}
	// 3 changed files in 3 folders, the root, the commit.
	if len(lacking) != 8 {
		t.Errorf("the update needed %d objects, want 8: %v", len(lacking), lacking)
	}
	if again := c.Finalize(session.ID); again.State != wire.Published {
		t.Errorf("finalize of a published session: %+v", again)
	}
}

// Nothing but the health of the server is told to those without a token.
func TestAuthentication(t *testing.T) {
	s := ts.Start(t, "archive")
	s.Client("").Want(200, "GET", "/healthz", nil)
	for _, token := range []string{"", "wrong"} {
		c := s.Client(token)
		for _, path := range []string{"/", "/api/v1/info", "/api/v1/refs", "/api/v1/sessions", "/files/", "/files/a/b",
			"/nothing", "/healthz/", "//healthz", "/files/../healthz", "/api/../healthz"} {
			for _, method := range []string{"GET", "POST", "HEAD", "PATCH", "DELETE", "OPTIONS", "PUT"} {
				if method == "OPTIONS" && path == "/files/" {
					continue // what tus can do is told to anyone
				}
				a := c.Do(method, path, nil, "Tus-Resumable", "1.0.0", "X-HTTP-Method-Override", "GET")
				if a.Status != 401 || a.Header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s %s with token %q: %d", method, path, token, a.Status)
				}
				if method != "HEAD" && a.Problem(t).Code() != wire.Unauthorized {
					t.Errorf("%s %s: %s", method, path, a.Body)
				}
			}
		}
	}
}

// Each refusal has its status and its code, and changes nothing.
func TestRefusals(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	c, other, boss := s.Client(s.Token), s.Client(s.Other), s.Client(s.Admin)
	if got := c.Push(repo, wire.Ref{Ref: "dir/main", New: commit.String()}); got.State != wire.Published {
		t.Fatalf("%+v", got)
	}
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	aborted := c.Open(wire.Ref{Ref: "y", New: commit.String()})
	c.Want(200, "DELETE", "/api/v1/sessions/"+aborted.ID, nil)
	id, gone := "/api/v1/sessions/"+session.ID, "/api/v1/sessions/"+aborted.ID
	sum := commit.String()
	open := func(format string, args ...any) string {
		return strings.ReplaceAll(fmt.Sprintf(format, args...), "SUM", sum)
	}
	zip := new(bytes.Buffer)
	z := gzip.NewWriter(zip)
	_, err := z.Write(bytes.Repeat([]byte("\n"), 3<<20))
	must.OK(t, err)
	must.OK(t, z.Close())
	cases := []struct {
		name         string
		c            *ts.Client
		method, path string
		body         string
		status       int
		code         string
		headers      []string
	}{
		{"no such route", c, "GET", "/api/v1/nothing", "", 404, wire.NotFound, nil},
		{"wrong method", c, "PUT", "/api/v1/refs", "", 405, wire.BadRequest, nil},
		{"dots", c, "GET", "/api/v1/../v1/refs", "", 404, wire.NotFound, nil},
		{"no json", c, "POST", "/api/v1/sessions", "{", 400, wire.BadRequest, nil},
		{"unknown key", c, "POST", "/api/v1/sessions", `{"refs":[],"x":1}`, 400, wire.BadRequest, nil},
		{"no refs", c, "POST", "/api/v1/sessions", `{"refs":[]}`, 400, wire.BadRequest, nil},
		{"bad ref name", c, "POST", "/api/v1/sessions", open(`{"refs":[{"ref":"../x","old":"","new":"SUM"}]}`), 400, wire.BadRequest, nil},
		{"ref like a checksum", c, "POST", "/api/v1/sessions", open(`{"refs":[{"ref":"SUM","old":"","new":"SUM"}]}`), 400, wire.BadRequest, nil},
		{"bad new", c, "POST", "/api/v1/sessions", `{"refs":[{"ref":"x","old":"","new":"12"}]}`, 400, wire.BadRequest, nil},
		{"bad old", c, "POST", "/api/v1/sessions", open(`{"refs":[{"ref":"x","old":"1","new":"SUM"}]}`), 400, wire.BadRequest, nil},
		{"twice", c, "POST", "/api/v1/sessions", open(`{"refs":[{"ref":"x","old":"","new":"SUM"},{"ref":"x","old":"","new":"SUM"}]}`), 400, wire.BadRequest, nil},
		{"ref below a ref", c, "POST", "/api/v1/sessions", open(`{"refs":[{"ref":"dir/main/x","old":"","new":"SUM"}]}`), 422, wire.RefConflict, nil},
		{"ref is a folder", c, "POST", "/api/v1/sessions", open(`{"refs":[{"ref":"dir","old":"","new":"SUM"}]}`), 422, wire.RefConflict, nil},
		{"two that conflict", c, "POST", "/api/v1/sessions", open(`{"refs":[{"ref":"q","old":"","new":"SUM"},{"ref":"q/r","old":"","new":"SUM"}]}`), 422, wire.RefConflict, nil},
		{"force without scope", c, "POST", "/api/v1/sessions", open(`{"refs":[{"ref":"x","old":"","new":"SUM"}],"force":true}`), 403, wire.Forbidden, nil},
		{"ref not allowed", other, "POST", "/api/v1/sessions", open(`{"refs":[{"ref":"x","old":"","new":"SUM"}]}`), 403, wire.Forbidden, nil},
		{"unknown session", c, "GET", "/api/v1/sessions/aaaaaaaaaaaaaaaa", "", 404, wire.NotFound, nil},
		{"malformed session", c, "GET", "/api/v1/sessions/A", "", 404, wire.NotFound, nil},
		{"other's session", other, "GET", id, "", 404, wire.NotFound, nil},
		{"other's abort", other, "DELETE", id, "", 404, wire.NotFound, nil},
		{"other's objects", other, "POST", id + "/objects", "", 404, wire.NotFound, nil},
		{"admin does not push into it", boss, "POST", id + "/objects", "", 403, wire.Forbidden, nil},
		{"bad state filter", c, "GET", "/api/v1/sessions?state=shut", "", 400, wire.BadRequest, nil},
		{"bad wait", c, "GET", id + "?wait=soon", "", 400, wire.BadRequest, nil},
		{"bad object name", c, "POST", id + "/objects", "x\n", 400, wire.BadRequest, nil},
		{"too many names", c, "POST", id + "/objects", strings.Repeat(sum+".filez\n", wire.MaxNames+1), 413, wire.TooLarge, nil},
		{"body too large", c, "POST", id + "/objects", strings.Repeat("\n", 3<<20), 413, wire.TooLarge, nil},
		{"body too large inflated", c, "POST", id + "/objects", zip.String(), 413, wire.TooLarge, []string{"Content-Encoding", "gzip"}},
		{"no gzip", c, "POST", id + "/objects", "plain", 400, wire.BadRequest, []string{"Content-Encoding", "gzip"}},
		{"objects of an aborted session", c, "POST", gone + "/objects", "", 409, wire.SessionClosed, nil},
		{"salvage of an aborted session", c, "POST", gone + "/salvage", "", 409, wire.SessionClosed, nil},
		{"finalize of an aborted session", c, "POST", gone + "/finalize", "", 409, wire.SessionClosed, nil},
		{"commitmeta of nothing", c, "GET", "/api/v1/commitmeta/" + sum, "", 404, wire.NotFound, nil},
		{"commitmeta of no checksum", c, "GET", "/api/v1/commitmeta/x", "", 400, wire.BadRequest, nil},
		{"download", c, "GET", "/files/" + session.ID + "/p", "", 405, wire.BadRequest, nil},
		{"upload path out of the store", c, "HEAD", "/files/" + session.ID + "/..", "", 404, "", nil},
		{"upload of nothing", c, "HEAD", "/files/" + session.ID + "/p", "", 404, "", nil},
		{"upload of another's session", other, "HEAD", "/files/" + session.ID + "/p", "", 404, "", nil},
		{"method override of another token", other, "POST", "/files/" + session.ID + "/p", "", 404, wire.NotFound, []string{"X-HTTP-Method-Override", "DELETE"}},
		{"list of uploads", c, "GET", "/files/", "", 405, wire.BadRequest, nil},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			a := tc.c.Want(tc.status, tc.method, tc.path, []byte(tc.body), append(tc.headers, "Tus-Resumable", "1.0.0")...)
			if tc.code == "" {
				return // HEAD has no body
			}
			if p := a.Problem(t); p.Code() != tc.code || p.Status != tc.status || p.Detail == "" || p.Title == "" {
				t.Errorf("problem %+v, want code %s", p, tc.code)
			}
		})
	}
	if got := c.Session(session.ID); got.State != wire.Open || got.Objects.Known != 0 {
		t.Errorf("the session changed: %+v", got)
	}
}

// Creating an upload is refused unless it can become one of the session's
// objects; twice it is 409 and keeps the bytes of the first.
func TestCreateUpload(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	file := ostree.Name{Checksum: commit, Type: ostree.CommitObject}
	c.Negotiate(session.ID, file)
	sum := commit.String()
	cases := []struct {
		name   string
		length int
		meta   string
		status int
		code   string
	}{
		{"no session", 5, ts.Metadata("pack", "p"), 400, wire.BadRequest},
		{"no name", 5, ts.Metadata("session", session.ID), 400, wire.BadRequest},
		{"two names", 5, ts.Metadata("session", session.ID, "pack", "p", "object", file.String()), 400, wire.BadRequest},
		{"bad pack name", 5, ts.Metadata("session", session.ID, "pack", "../p"), 400, wire.BadRequest},
		{"bad object name", 5, ts.Metadata("session", session.ID, "object", "p"), 400, wire.BadRequest},
		{"not in the set", 5, ts.Metadata("session", session.ID, "object", sum+".filez"), 400, wire.BadRequest},
		{"bad digest", 5, ts.Metadata("session", session.ID, "pack", "p", "digest", "x"), 400, wire.BadRequest},
		{"pack too large", wire.MaxPack + 1, ts.Metadata("session", session.ID, "pack", "p"), 413, wire.TooLarge},
		{"metadata too large", ostree.CommonMetadata + 1, ts.Metadata("session", session.ID, "object", file.String()), 413, wire.TooLarge},
		{"unknown session", 5, ts.Metadata("session", "aaaaaaaaaaaaaaaa", "pack", "p"), 404, wire.NotFound},
		{"bad length", -1, ts.Metadata("session", session.ID, "pack", "p"), 400, wire.BadRequest},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			a := c.Create(tc.length, tc.meta)
			if a.Status != tc.status || a.Problem(t).Code() != tc.code {
				t.Errorf("%d %s", a.Status, a.Body)
			}
		})
	}
	pack := ts.Pack(t, repo, file)
	meta := ts.Metadata("session", session.ID, "pack", "p")
	if a := c.Create(len(pack), meta); a.Status != 201 || !strings.HasSuffix(a.Header.Get("Location"), "/files/"+session.ID+"/p") {
		t.Fatalf("%d %v", a.Status, a.Header)
	}
	if a := c.Patch(session.ID, "p", 0, pack[:20]); a.Status != 204 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if a := c.Create(len(pack), meta); a.Status != 409 || a.Problem(t).Code() != wire.Exists {
		t.Errorf("second creation: %d %s", a.Status, a.Body)
	}
	if a := c.Patch(session.ID, "p", 3, pack[3:]); a.Status != 409 {
		t.Errorf("wrong offset: %d %s", a.Status, a.Body)
	}
	if got := c.Session(session.ID); !slices.Equal(got.Uploads, []wire.Upload{{Name: "p", Offset: 20, Size: int64(len(pack))}}) || got.Bytes.Received != 20 {
		t.Errorf("uploads under way %+v, bytes %+v", got.Uploads, got.Bytes)
	}
	if a := c.Patch(session.ID, "p", 20, pack[20:]); a.Status != 204 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if lacking := c.Negotiate(session.ID, file); len(lacking) != 0 {
		t.Errorf("still lacking %v", lacking)
	}
	if got := c.Offset(session.ID, "p"); got != len(pack) {
		t.Errorf("offset %d after ingest, want %d", got, len(pack))
	}
	if got := c.Session(session.ID); got.Bytes.Received != int64(len(pack)) || got.Objects.Staged != 1 || len(got.Uploads) != 0 {
		t.Errorf("%+v", got)
	}
}

// A bad object is rejected by name and can be sent again; the others of its
// pack count.
func TestRejectedObject(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	all := ts.Objects(t, repo, commit)
	c.Negotiate(session.ID, all...)
	i := slices.IndexFunc(all, func(n ostree.Name) bool { return n.Type == ostree.File })
	bad, good := all[i], slices.Delete(slices.Clone(all), i, i+1)
	object := ts.Object(t, repo, bad)
	pack := ts.Pack(t, repo, good...)
	pack = append(wire.AppendFrameHeader(pack, bad, int64(len(object))), append(bytes.Clone(object[:len(object)-1]), object[len(object)-1]^1)...)
	c.Upload(session.ID, "all", pack)
	c.Upload(session.ID, bad.String(), append(bytes.Clone(object), 0))
	if lacking := c.Negotiate(session.ID, all...); !slices.Equal(lacking, []ostree.Name{bad}) {
		t.Fatalf("lacking %v, want %v", lacking, bad)
	}
	got := c.Finalize(session.ID)
	if got.State != wire.Open || got.Error != wire.BadObjects || got.Objects.Rejected != 1 ||
		len(got.Problems) != 1 || got.Problems[0].Object != bad.String() || got.Problems[0].Reason == "" {
		t.Fatalf("%+v", got)
	}
	c.Upload(session.ID, bad.String(), object)
	if got := c.Finalize(session.ID); got.State != wire.Published || len(got.Problems) != 0 || got.Objects.Rejected != 0 {
		t.Fatalf("%+v", got)
	}
}

// A commit of which an object never arrived is not published, the object is
// named, and the session goes on.
func TestMissingObject(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	all := ts.Objects(t, repo, commit)
	for _, leave := range []ostree.Type{ostree.File, ostree.DirTree, ostree.DirMeta, ostree.CommitObject} {
		session := c.Open(wire.Ref{Ref: "x-" + leave.String(), New: commit.String()})
		i := slices.IndexFunc(all, func(n ostree.Name) bool { return n.Type == leave })
		rest := slices.Delete(slices.Clone(all), i, i+1)
		if lacking := c.Negotiate(session.ID, rest...); len(lacking) > 0 {
			c.Upload(session.ID, "rest", ts.Pack(t, repo, lacking...))
		}
		if there := len(c.Negotiate(session.ID, all[i])) == 0; there {
			continue // an earlier round brought it
		}
		got := c.Finalize(session.ID)
		if got.State != wire.Open || got.Error != wire.MissingObjects || len(got.Problems) != 1 || got.Problems[0].Object != all[i].String() {
			t.Fatalf("without %s: %+v", all[i], got)
		}
		if s.Ref("x-"+leave.String()) != "" {
			t.Fatal("a ref names an incomplete commit")
		}
		c.Negotiate(session.ID, all[i])
		c.Upload(session.ID, "late", ts.Pack(t, repo, all[i]))
		if got := c.Finalize(session.ID); got.State != wire.Published {
			t.Fatalf("with %s: %+v", all[i], got)
		}
		return
	}
}

// Objects that a session did not announce do not get in.
func TestNotInTheSet(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	all := ts.Objects(t, repo, commit)
	c.Negotiate(session.ID, all[0])
	c.Upload(session.ID, "all", ts.Pack(t, repo, all...))
	if lacking := c.Negotiate(session.ID, all...); len(lacking) != len(all)-1 {
		t.Errorf("%d objects are lacking, want %d", len(lacking), len(all)-1)
	}
}

// Salvage keeps the whole objects of a pack that was cut and drops the rest.
func TestSalvage(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	all := ts.Objects(t, repo, commit)
	c.Negotiate(session.ID, all...)
	pack := ts.Pack(t, repo, all...)
	for name, sent := range map[string][]byte{"cut": pack[:len(pack)-3], "empty": nil} {
		if a := c.Create(len(pack), ts.Metadata("session", session.ID, "pack", name)); a.Status != 201 {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		if a := c.Patch(session.ID, name, 0, sent); a.Status != 204 {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	c.Want(200, "POST", "/api/v1/sessions/"+session.ID+"/salvage", nil)
	if lacking := c.Negotiate(session.ID, all...); !slices.Equal(lacking, all[len(all)-1:]) {
		t.Fatalf("lacking %v, want the last of the pack", lacking)
	}
	for _, name := range []string{"cut", "empty"} {
		if got := c.Offset(session.ID, name); got != -1 {
			t.Errorf("upload %s is still there, at %d", name, got)
		}
	}
}

// A stop between any two requests loses nothing that had arrived.
func TestRestart(t *testing.T) {
	repo, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	all := ts.Objects(t, repo, commit)
	c.Negotiate(session.ID, all...)
	half := ts.Pack(t, repo, all[:9]...)
	rest := ts.Pack(t, repo, all[9:]...)
	c.Upload(session.ID, "half", half)
	if a := c.Create(len(rest), ts.Metadata("session", session.ID, "pack", "rest")); a.Status != 201 {
		t.Fatalf("%d", a.Status)
	}
	c.Patch(session.ID, "rest", 0, rest[:40])
	s.Stop()
	s.Run()
	c = s.Client(s.Token)
	if got := c.Offset(session.ID, "half"); got != len(half) {
		t.Errorf("offset of a complete upload: %d, want %d", got, len(half))
	}
	if got := c.Offset(session.ID, "rest"); got != 40 {
		t.Errorf("offset of an upload under way: %d, want 40", got)
	}
	if a := c.Patch(session.ID, "rest", 40, rest[40:]); a.Status != 204 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if got := c.Finalize(session.ID); got.State != wire.Published {
		t.Fatalf("%+v", got)
	}
}

// A session's status tells what went on, to its owner and to operators.
func TestListing(t *testing.T) {
	_, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	one := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	two := c.Open(wire.Ref{Ref: "y", New: commit.String()})
	c.Want(200, "DELETE", "/api/v1/sessions/"+one.ID, nil)
	list := func(c *ts.Client, query string) (ids []string) {
		var l wire.SessionList
		must.OK(t, json.Unmarshal(c.Want(200, "GET", "/api/v1/sessions"+query, nil).Body, &l))
		for _, s := range l.Sessions {
			ids = append(ids, s.ID)
		}
		return ids
	}
	if got := list(c, ""); !slices.Equal(got, []string{two.ID, one.ID}) {
		t.Errorf("own sessions %v, want newest first", got)
	}
	if got := list(s.Client(s.Admin), "?state=open"); !slices.Equal(got, []string{two.ID}) {
		t.Errorf("open sessions of all %v", got)
	}
	if got := list(s.Client(s.Other), ""); len(got) != 0 {
		t.Errorf("other token sees %v", got)
	}
}

// A client that sends less than it said must not stall the others: the upload
// keeps what came.
func TestInterruptedPatch(t *testing.T) {
	_, commit := source(t)
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	session := c.Open(wire.Ref{Ref: "x", New: commit.String()})
	if a := c.Create(1000, ts.Metadata("session", session.ID, "pack", "p")); a.Status != 201 {
		t.Fatalf("%d", a.Status)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	must.OK(t, err)
	_, err = fmt.Fprintf(conn, "PATCH /files/%s/p HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTus-Resumable: 1.0.0\r\n"+
		"Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\nContent-Length: 1000\r\n\r\n0123456789", session.ID, s.Token)
	must.OK(t, err)
	for c.Session(session.ID).Bytes.Received < 10 {
	}
	// HEAD cuts the writer that is still connected, and tells where it was.
	if got := c.Offset(session.ID, "p"); got != 10 {
		t.Errorf("offset %d, want 10", got)
	}
	must.OK(t, conn.Close())
}
