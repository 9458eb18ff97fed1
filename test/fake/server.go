// SPDX-License-Identifier: AGPL-3.0-or-later

// Package fake is a server in memory for tests of the client. It believes
// everything, and shows the faults that a real server cannot be made to show.
//
// Its exported fields may be changed before the first request, and by its Fault
// and Outcome functions.
package fake

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// A Server is the fake.
type Server struct {
	*httptest.Server
	// Fault sees each request first and returns true if it has answered.
	Fault func(w http.ResponseWriter, r *http.Request) bool
	// Outcome is asked at finalize for the state that the session ends in.
	Outcome func(s *wire.Session)

	Mu       sync.Mutex // held while a request changes anything, but by Fault
	Info     wire.Info
	Refs     map[string]wire.RefState
	Metas    map[string][]byte // detached metadata by commit
	Session  *wire.Session     // the only one, nil if there is none
	Opened   int               // sessions so far
	Salvages int
	Set      map[ostree.Name]bool // value: staged
	Uploads  map[string]*Upload   // by name
	log      []string             // method and path of every request
}

// An Upload is what arrived of one.
type Upload struct {
	size   int64
	meta   string
	bytes  []byte
	staged bool
}

// Start starts a server that stops at the end of the test.
func Start(t *testing.T) *Server {
	f := &Server{Refs: map[string]wire.RefState{}, Metas: map[string][]byte{}, Set: map[ostree.Name]bool{}, Uploads: map[string]*Upload{}}
	f.Outcome = func(s *wire.Session) { s.State = wire.Published }
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Server.Close)
	return f
}

// ServeHTTP answers as docs/protocol.md tells.
func (f *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if method := r.Header.Get(wire.OverrideHeader); method != "" && r.Method == "POST" {
		r.Method = method
	}
	f.Mu.Lock()
	f.log = append(f.log, r.Method+" "+r.URL.Path)
	fault := f.Fault
	f.Mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	if strings.HasPrefix(r.URL.Path, "/files/") {
		f.Tus(w, r)
		return
	}
	f.Mu.Lock()
	defer f.Mu.Unlock()
	switch path, _ := strings.CutPrefix(r.URL.Path, "/api/v1/"); {
	case path == "info":
		Reply(w, 200, f.Info)
	case path == "refs":
		Reply(w, 200, wire.RefList{Refs: f.Refs})
	case strings.HasPrefix(path, "commitmeta/"):
		w.Write(f.Metas[strings.TrimPrefix(path, "commitmeta/")])
	case path == "sessions" && r.Method == "GET":
		list := wire.SessionList{}
		if f.Session != nil && f.Session.State == cmp.Or(r.FormValue("state"), f.Session.State) {
			list.Sessions = append(list.Sessions, *f.Session)
		}
		Reply(w, 200, list)
	case path == "sessions":
		var open wire.OpenRequest
		json.NewDecoder(r.Body).Decode(&open)
		f.Opened++
		f.Session = &wire.Session{ID: "aaaabbbbccccdddd", State: wire.Open, Refs: open.Refs, Force: open.Force, Created: time.Now()}
		Reply(w, 201, f.Session)
	case f.Session == nil || !strings.HasPrefix(path, "sessions/"+f.Session.ID):
		Refuse(w, wire.Errorf(wire.NotFound, "no such session"))
	case strings.HasSuffix(path, "/objects"):
		f.negotiate(w, r)
	case strings.HasSuffix(path, "/salvage"):
		f.Salvages++
		Reply(w, 200, f.Session)
	case strings.HasSuffix(path, "/finalize"):
		f.Outcome(f.Session)
		Reply(w, 202, f.Session)
	case r.Method == "DELETE":
		f.Session.State = wire.Aborted
		Reply(w, 200, f.Session)
	default:
		Reply(w, 200, f.Session)
	}
}

// Reply answers with v as JSON.
func Reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// Refuse answers with p.
func Refuse(w http.ResponseWriter, p *wire.Problem) {
	w.Header().Set("Content-Type", wire.ProblemType)
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

func (f *Server) negotiate(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		body, _ = gzip.NewReader(r.Body)
	}
	names, err := wire.ParseNames(body, wire.MaxNames)
	if err != nil {
		Refuse(w, wire.Errorf(wire.BadRequest, "%v", err))
		return
	}
	var lacking []ostree.Name
	for _, n := range names {
		if !f.Set[n] {
			f.Set[n] = false // known, not staged
		}
		if !f.Set[n] || n.Type == ostree.CommitMeta {
			lacking = append(lacking, n)
		}
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	z.Write(wire.FormatNames(lacking))
	z.Close()
}

// Tus handles a request of an upload as a server without faults does.
func (f *Server) Tus(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	f.Mu.Lock()
	defer f.Mu.Unlock()
	if r.Method == "POST" {
		f.create(w, r)
		return
	}
	name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	u := f.Uploads[name]
	if u == nil {
		http.Error(w, "upload not found", 404)
		return
	}
	switch r.Method {
	case "HEAD":
		u.tell(w)
	case "DELETE":
		delete(f.Uploads, name)
		w.WriteHeader(204)
	case "PATCH":
		if r.Header.Get("Upload-Offset") != fmt.Sprint(len(u.bytes)) {
			http.Error(w, "ERR_MISMATCHED_OFFSET: mismatched offset", http.StatusConflict)
			return
		}
		u.bytes = append(u.bytes, body...)
		if err != nil {
			http.Error(w, "ERR_UNEXPECTED_EOF: server expected to receive more bytes", 400)
			return
		}
		f.ingest(name, u)
		w.Header().Set("Upload-Offset", fmt.Sprint(len(u.bytes)))
		w.WriteHeader(204)
	}
}

// tell puts what is known of an upload into the header of an answer.
func (u *Upload) tell(w http.ResponseWriter) {
	w.Header().Set("Upload-Offset", fmt.Sprint(len(u.bytes)))
	w.Header().Set("Upload-Length", fmt.Sprint(u.size))
	w.Header().Set("Upload-Metadata", u.meta)
}

func (f *Server) create(w http.ResponseWriter, r *http.Request) {
	meta := r.Header.Get("Upload-Metadata")
	name := cmp.Or(metaOf(meta, "pack"), metaOf(meta, "object"))
	if u := f.Uploads[name]; u != nil {
		u.tell(w)
		Refuse(w, wire.Errorf(wire.Exists, "upload %s exists", name))
		return
	}
	size, _ := strconv.ParseInt(r.Header.Get("Upload-Length"), 10, 64)
	f.Uploads[name] = &Upload{size: size, meta: meta}
	w.Header().Set("Location", "http://elsewhere.invalid/files/"+name) // must not be used
	w.WriteHeader(201)
}

func metaOf(meta, key string) string {
	for pair := range strings.SplitSeq(meta, ",") {
		if k, v, _ := strings.Cut(pair, " "); k == key {
			b, _ := base64.StdEncoding.DecodeString(v)
			return string(b)
		}
	}
	return ""
}

func (f *Server) ingest(name string, u *Upload) {
	if int64(len(u.bytes)) < u.size || u.staged {
		return
	}
	u.staged = true
	if n, err := ostree.ParseName(name); err == nil {
		f.Set[n] = true
		return
	}
	pack, err := wire.ReadPack(u.bytes)
	if err != nil {
		return
	}
	for frame, ok := pack.Next(); ok; frame, ok = pack.Next() {
		f.Set[frame.Name] = true
	}
}

// Heal ends the faults.
func (f *Server) Heal() {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.Fault = nil
}

// Count is how many requests began with prefix.
func (f *Server) Count(prefix string) int {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(f.log), func(s string) bool { return !strings.HasPrefix(s, prefix) }))
}

// Sent is the bytes of the one upload that there is.
func (f *Server) Sent(t *testing.T) []byte {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	if len(f.Uploads) != 1 {
		t.Fatalf("%d uploads, want one", len(f.Uploads))
	}
	for _, u := range f.Uploads {
		return bytes.Clone(u.bytes)
	}
	return nil
}
