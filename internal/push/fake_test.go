// SPDX-License-Identifier: AGPL-3.0-or-later

package push

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

// A fake is a server in memory that believes everything; it exists for the
// faults that a real one cannot be made to show. fault sees each request first
// and returns true if it has answered.
type fake struct {
	*httptest.Server
	fault func(w http.ResponseWriter, r *http.Request) bool
	// outcome is asked at finalize for the state that the session ends in.
	outcome func(s *wire.Session)

	mu      sync.Mutex
	refs    map[string]wire.RefState
	metas   map[string][]byte
	session *wire.Session
	opened  int
	salvage int
	set     map[ostree.Name]bool // value: staged
	uploads map[string]*fakeUpload
	log     []string // method and path of every request
}

type fakeUpload struct {
	size   int64
	meta   string
	bytes  []byte
	staged bool
}

func newFake(t *testing.T) *fake {
	f := &fake{refs: map[string]wire.RefState{}, metas: map[string][]byte{}, set: map[ostree.Name]bool{}, uploads: map[string]*fakeUpload{}}
	f.outcome = func(s *wire.Session) { s.State = wire.Published }
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Server.Close)
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.log = append(f.log, r.Method+" "+r.URL.Path)
	fault := f.fault
	f.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	if strings.HasPrefix(r.URL.Path, "/files/") {
		f.tus(w, r)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch path, _ := strings.CutPrefix(r.URL.Path, "/api/v1/"); {
	case path == "refs":
		reply(w, 200, wire.RefList{Refs: f.refs})
	case strings.HasPrefix(path, "commitmeta/"):
		w.Write(f.metas[strings.TrimPrefix(path, "commitmeta/")])
	case path == "sessions" && r.Method == "GET":
		list := wire.SessionList{}
		if f.session != nil && f.session.State == cmp.Or(r.FormValue("state"), f.session.State) {
			list.Sessions = append(list.Sessions, *f.session)
		}
		reply(w, 200, list)
	case path == "sessions":
		var open wire.OpenRequest
		json.NewDecoder(r.Body).Decode(&open)
		f.opened++
		f.session = &wire.Session{ID: "aaaabbbbccccdddd", State: wire.Open, Refs: open.Refs, Force: open.Force, Created: time.Now()}
		reply(w, 201, f.session)
	case f.session == nil || !strings.HasPrefix(path, "sessions/"+f.session.ID):
		refuse(w, wire.Errorf(wire.NotFound, "no such session"))
	case strings.HasSuffix(path, "/objects"):
		f.negotiate(w, r)
	case strings.HasSuffix(path, "/salvage"):
		f.salvage++
		reply(w, 200, f.session)
	case strings.HasSuffix(path, "/finalize"):
		f.outcome(f.session)
		reply(w, 202, f.session)
	case r.Method == "DELETE":
		f.session.State = wire.Aborted
		reply(w, 200, f.session)
	default:
		reply(w, 200, f.session)
	}
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, p *wire.Problem) {
	w.Header().Set("Content-Type", wire.ProblemType)
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

func (f *fake) negotiate(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		body, _ = gzip.NewReader(r.Body)
	}
	names, err := wire.ParseNames(body, wire.MaxNames)
	if err != nil {
		refuse(w, wire.Errorf(wire.BadRequest, "%v", err))
		return
	}
	var lacking []ostree.Name
	for _, n := range names {
		if !f.set[n] {
			f.set[n] = false // known, not staged
		}
		if !f.set[n] || n.Type == ostree.CommitMeta {
			lacking = append(lacking, n)
		}
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	z.Write(wire.FormatNames(lacking))
	z.Close()
}

func (f *fake) tus(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Method == "POST" {
		f.create(w, r)
		return
	}
	name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	u := f.uploads[name]
	if u == nil {
		http.Error(w, "upload not found", 404)
		return
	}
	switch r.Method {
	case "HEAD":
		w.Header().Set("Upload-Offset", fmt.Sprint(len(u.bytes)))
		w.Header().Set("Upload-Length", fmt.Sprint(u.size))
		w.Header().Set("Upload-Metadata", u.meta)
	case "DELETE":
		delete(f.uploads, name)
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

func (f *fake) create(w http.ResponseWriter, r *http.Request) {
	meta := r.Header.Get("Upload-Metadata")
	name := cmp.Or(metaOf(meta, "pack"), metaOf(meta, "object"))
	if f.uploads[name] != nil {
		refuse(w, wire.Errorf(wire.Exists, "upload %s exists", name))
		return
	}
	size, _ := strconv.ParseInt(r.Header.Get("Upload-Length"), 10, 64)
	f.uploads[name] = &fakeUpload{size: size, meta: meta}
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

func (f *fake) ingest(name string, u *fakeUpload) {
	if int64(len(u.bytes)) < u.size || u.staged {
		return
	}
	u.staged = true
	if n, err := ostree.ParseName(name); err == nil {
		f.set[n] = true
		return
	}
	pack, err := wire.ReadPack(u.bytes)
	if err != nil {
		return
	}
	for frame, ok := pack.Next(); ok; frame, ok = pack.Next() {
		f.set[frame.Name] = true
	}
}

// heal ends the faults.
func (f *fake) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = nil
}

// count is how many requests began with prefix.
func (f *fake) count(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(f.log), func(s string) bool { return !strings.HasPrefix(s, prefix) }))
}

// sent is the bytes of the one upload that there is.
func (f *fake) sent(t *testing.T) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.uploads) != 1 {
		t.Fatalf("%d uploads, want one", len(f.uploads))
	}
	for _, u := range f.uploads {
		return bytes.Clone(u.bytes)
	}
	return nil
}
