// SPDX-License-Identifier: AGPL-3.0-or-later

package server_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// At the main address the metrics are for whoever has the scope, and for no other.
func TestWhoMayReadMetrics(t *testing.T) {
	s := ts.Start(t, "archive")
	for _, who := range []struct {
		token string
		want  int
	}{
		{"", 401}, {"unknown", 401}, {s.Token, 403},
		{s.AddToken(token.Options{Name: "operator", Scopes: []string{token.Sessions, token.Force, token.Push}}), 403},
		{s.AddToken(token.Options{Name: "prometheus", Scopes: []string{token.Metrics}}), 200}, {s.Admin, 200},
	} {
		got := s.Client(who.token).Do("GET", "/metrics", nil)
		if got.Status != who.want || strings.Contains(string(got.Body), "ostree_upload_") != (who.want == 200) {
			t.Errorf("%d for a token that is to have %d: %s", got.Status, who.want, got.Body)
		}
		if who.want == 403 && !strings.Contains(got.Problem(t).Hint(), "--scope metrics") {
			t.Errorf("the refusal does not say what to do: %s", got.Body)
		}
	}
}

// No client can make a series more by what it asks for, nor is a path or a token in one.
func TestMetricsAreBounded(t *testing.T) {
	s := ts.Start(t, "archive")
	series := func() int {
		text := string(s.Client(s.Admin).Want(200, "GET", "/metrics", nil).Body)
		if strings.Contains(text, "probe") {
			t.Errorf("what a client made up is in\n%s", text)
		}
		return strings.Count(text, "\n")
	}
	ask := func(i int) {
		for _, path := range []string{"/probe%d", "/api/v1/sessions/probe%d", "/api/v1/probe%d/x", "/files/probe%d/x", "//probe%d", "/metrics/probe%d"} {
			for _, method := range []string{"GET", "PATCH", "DELETE", fmt.Sprint("PROBE", i)} {
				s.Client(s.Token).Do(method, fmt.Sprintf(path, i), nil)
				s.Client("probe").Do(method, fmt.Sprintf(path, i), nil)
			}
		}
	}
	series()
	ask(0)
	before := series()
	for i := range 20 {
		ask(i)
	}
	if after := series(); after != before {
		t.Errorf("%d lines became %d", before, after)
	}
}

// A scrape waits for no writer of the journal.
func TestScrapeWhileTheJournalWrites(t *testing.T) {
	s := ts.Start(t, "archive")
	id := s.Client(s.Token).Open(wire.Ref{Ref: "x", New: strings.Repeat("a", 64)}).ID
	var during string
	_, err := s.Journal.Move(id, journal.Open, func(x *journal.Session) {
		during = string(s.Client(s.Admin).Want(200, "GET", "/metrics", nil).Body)
		x.Detail = "changed"
	})
	must.OK(t, err)
	if !strings.Contains(during, `ostree_upload_sessions{state="open"} 1`) {
		t.Errorf("%s", during)
	}
}

// Publishes are counted by their outcome, and objects by what they turned out to be.
func TestMetricsOfOutcomes(t *testing.T) {
	s, build := ts.Start(t, "archive"), filepath.Join(t.TempDir(), "build")
	c, one := s.Client(s.Token), ts.Commit(t, build, "x", "one", 3)
	ref := wire.Ref{Ref: "x", New: one.String()}
	c.Push(build, ref)
	c.Push(build, ref) // somebody else was first
	session := c.Open(wire.Ref{Ref: "y", New: one.String()})
	bad := ostree.Name{Checksum: ostree.Checksum{1}, Type: ostree.DirTree}
	c.Negotiate(session.ID, bad)
	c.Upload(session.ID, bad.String(), []byte("this is no tree"))
	c.Negotiate(session.ID, bad) // waits until it is verified
	text := string(s.Client(s.Admin).Want(200, "GET", "/metrics", nil).Body)
	verified := len(ts.Objects(t, build, one))
	for _, line := range []string{
		`ostree_upload_publish_duration_seconds_count{outcome="published"} 1`,
		`ostree_upload_publish_duration_seconds_count{outcome="ref-moved"} 1`,
		`ostree_upload_publish_duration_seconds_count{outcome="internal"} 0`, // for the alerts
		`ostree_upload_http_requests_total{code="500",route="POST /files/{$}"} 0`,
		`ostree_upload_sessions{state="failed"} 1`, `ostree_upload_sessions{state="open"} 1`,
		fmt.Sprint("ostree_upload_objects_verified_total ", verified), "ostree_upload_objects_rejected_total 1",
		`ostree_upload_http_requests_total{code="201",route="POST /files/{$}"} 2`,
		`ostree_upload_token_last_use_timestamp_seconds{token="ci"} `,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no line %s in\n%s", line, text)
		}
	}
}

// Runs that remove what is not to be kept are counted, with what they removed; looks are not.
func TestMetricsOfPruning(t *testing.T) {
	s, build := ts.Start(t, "archive"), filepath.Join(t.TempDir(), "build")
	one, two := ts.Commit(t, build, "x", "one", 3), ts.Commit(t, build, "x", "two", 3)
	c, keep := s.Client(s.Token), []config.Keep{{Refs: []string{"**"}}}
	c.Push(build, wire.Ref{Ref: "x", New: one.String()})
	c.Push(build, wire.Ref{Ref: "x", Old: one.String(), New: two.String()})
	wants := func(lines ...string) {
		t.Helper()
		text := string(s.Client(s.Admin).Want(200, "GET", "/metrics", nil).Body)
		for _, line := range lines {
			if !strings.Contains(text, "\nostree_upload_"+line+"\n") {
				t.Errorf("no line %s in\n%s", line, text)
			}
		}
	}
	_, err := s.Prune(t.Context(), keep, true)
	must.OK(t, err)
	wants(`prune_runs_total{outcome="done"} 0`, `prune_runs_total{outcome="failed"} 0`, "prune_last_run_timestamp_seconds 0")

	path := filepath.Join(s.Repo, "objects", ostree.Name{Checksum: two, Type: ostree.CommitObject}.Path())
	must.OK(t, os.Rename(path, path+".away"))
	if _, err = s.Prune(t.Context(), keep, false); err == nil {
		t.Error("it prunes although it cannot tell what a ref needs")
	}
	must.OK(t, os.Rename(path+".away", path))
	wants(`prune_runs_total{outcome="failed"} 1`, "prune_last_run_timestamp_seconds 0", "pruned_objects_total 0")

	r, err := s.Prune(t.Context(), keep, false)
	must.OK(t, err)
	wants(`prune_runs_total{outcome="done"} 1`, fmt.Sprint("pruned_objects_total ", r.Commits+r.Objects), fmt.Sprint("pruned_bytes_total ", r.Bytes))
	if r.Commits != 1 || r.Objects == 0 || r.Bytes == 0 {
		t.Errorf("%+v", r)
	}
}

// A client that is killed in the middle of an upload or of a wait, or asks for what
// there is not, counts as no fault of the server: that would wake somebody.
func TestMetricsOfClientsFaults(t *testing.T) {
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	id := c.Open(wire.Ref{Ref: "x", New: strings.Repeat("a", 64)}).ID
	meta := ts.Metadata("session", id, "pack", "p")
	c.Want(201, "POST", "/files/", nil, "Tus-Resumable", "1.0.0", "Upload-Length", "10", "Upload-Metadata", meta)
	c.Want(400, "POST", "/files/", nil, "Tus-Resumable", "1.0.0", "Upload-Defer-Length", "1", "Upload-Metadata", ts.Metadata("session", id, "pack", "q"))
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	must.OK(t, err)
	_, err = fmt.Fprintf(conn, "PATCH /files/%s/p HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"+
		"Content-Type: application/offset+octet-stream\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n", id, s.Token)
	must.OK(t, err)
	_, err = conn.Read(make([]byte, 100)) // its body is asked for
	must.OK(t, err)
	must.OK(t, conn.(*net.TCPConn).SetLinger(0)) // closed by a reset
	must.OK(t, conn.Close())
	// HEAD waits for the end of PATCH, which a scrape is not to run beside: tusd reads how
	// many kinds of errors there are without its lock.
	c.Offset(id, "p")
	metrics := func() string { return string(s.Client(s.Admin).Want(200, "GET", "/metrics", nil).Body) }
	ended := func(request string) {
		must.Wait(t, "the end of "+request, func() bool {
			return strings.Contains(metrics(), `ostree_upload_http_request_duration_seconds_count{route="`+request+`"} 1`)
		})
	}
	ended("PATCH /files/{id}/{name}")
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/api/v1/sessions/"+id+"?wait=50s", nil)
	must.OK(t, err)
	req.Header.Set("Authorization", "Bearer "+s.Token)
	left := make(chan error, 1)
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
		}
		left <- err
	}()
	must.Wait(t, "the request", func() bool { return strings.Contains(metrics(), `code="500",route="GET /api/v1/sessions/{id}"} 0`) })
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the wait ended with %v", err)
	}
	ended("GET /api/v1/sessions/{id}")
	for line := range strings.Lines(metrics()) {
		if strings.HasPrefix(line, `ostree_upload_http_requests_total{code="5`) && !strings.HasSuffix(line, " 0\n") {
			t.Errorf("counted as a fault: %s", line)
		}
	}
}

// What one scrape costs a server that remembers 10,000 sessions.
func BenchmarkScrape(b *testing.B) {
	s := ts.Start(b, "archive")
	for i := range 10_000 {
		_, err := s.Journal.Create(journal.Session{Token: fmt.Sprint("t", i%100), Refs: []wire.Ref{{Ref: "x", New: strings.Repeat("a", 64)}}}, 1<<40)
		must.OK(b, err)
	}
	c := s.Client(s.Admin)
	for b.Loop() {
		c.Want(200, "GET", "/metrics", nil)
	}
}
