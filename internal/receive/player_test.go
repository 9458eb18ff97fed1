// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A player sends requests over a connection, sound ones and spoilt ones, and goes on
// with a push all the while, so that there are sessions and uploads to spoil. It checks
// each answer.
type player struct {
	address string
	tokens  []string // the first one pushes

	refs   int // that it may publish
	commit ostree.Checksum
	names  []ostree.Name
	pack   []byte

	conn   net.Conn
	answer *bufio.Reader

	step     int      // of the push
	session  string   // of the push
	sessions []string // some that there are or were
	mine     []string // that the push has opened, perhaps open still
	opened   int
	requests int

	played map[string]int // answers of sound requests, by kind and hundred of the status
}

// newPlayer makes a player with a commit to push.
func newPlayer(t testing.TB, s *ts.Server) *player {
	repo := filepath.Join(t.TempDir(), "build")
	p := &player{
		address: strings.TrimPrefix(s.URL, "http://"), refs: 30, played: make(map[string]int),
		tokens:   []string{s.Token, s.Admin, s.Other, s.AddToken(token.Options{Name: "meter", Scopes: []string{token.Metrics}}), "wrong", ""},
		commit:   ts.Commit(t, repo, "main", "fuzz", 5),
		sessions: []string{"k3xq7mpl2wbz5aen"},
	}
	p.names = ts.Objects(t, repo, p.commit)
	p.pack = ts.Pack(t, repo, p.names...)
	t.Cleanup(p.hangUp)
	return p
}

func (p *player) hangUp() {
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}

// play sends requests until the dice has nothing left. The error is what is wrong with
// an answer.
func (p *player) play(d *dice) error {
	for len(d.left) > 0 {
		s := p.next(d)
		// Most are spoilt a little; those of the push less often, or it came to no end.
		spoilt := max(0, d.roll(6)-2)
		if s.kind == "push" {
			spoilt = max(0, spoilt-2)
		}
		for range spoilt {
			s.spoil(d, p)
		}
		res, body, err := p.send(s)
		if err != nil && p.refused(s) {
			p.requests++
			continue
		}
		if err == nil {
			err = p.check(s, res, body)
		}
		if err != nil {
			text, _ := s.wire()
			return fmt.Errorf("%w, to\n%.2000q", err, text)
		}
		p.requests++
		if spoilt == 0 {
			p.played[fmt.Sprint(s.kind, " ", res.StatusCode/100)]++
		}
		p.learn(s, res, body)
	}
	return nil
}

// refused tells whether net/http refuses a request for its header. It closes the
// connection then, on which the answer is lost if a body is on its way.
func (p *player) refused(s *shot) bool {
	bare := *s
	bare.body, bare.chunked = nil, false
	res, _, err := p.send(&bare)
	return err == nil && res.StatusCode >= 400 && res.Header.Get(wire.RequestHeader) == ""
}

// next is a sound request, or one that would be at another time.
func (p *player) next(d *dice) *shot {
	if d.roll(2) == 0 {
		return p.push()
	}
	id, upload := pick(d, p.sessions...), pick(d, "all", "all", "p", p.names[0].String(), p.names[1].String())
	if d.roll(4) > 0 && p.session != "" {
		id = p.session
	}
	session, file := "/api/v1/sessions/"+id, "/files/"+id+"/"+upload
	s := &shot{method: "GET", header: [][2]string{{"Authorization", "Bearer " + p.tokens[d.roll(2)*d.roll(len(p.tokens))]}}}
	tus := func() { s.header = append(s.header, [2]string{"Tus-Resumable", "1.0.0"}) }
	s.kind = pick(d, "info", "refs", "list", "get", "lookup", "negotiate", "create", "patch", "head", "terminate", "salvage", "finalize", "abort", "commitmeta", "options", "healthz", "metrics")
	switch s.kind {
	case "list":
		s.target = "/api/v1/sessions?limit=3&before=" + pick(d, "", id) + pick(d, "", "&mine=1", "&state=open", "&moves="+strings.Repeat("a", 64))
	case "get":
		s.target = session + pick(d, "", "?wait=1ms")
	case "lookup", "negotiate":
		s.method, s.target, s.body = "POST", "/api/v1/objects", wire.FormatNames(p.names)
		if s.kind == "negotiate" {
			s.target = session + "/objects"
		}
	case "create":
		s.method, s.target = "POST", "/files/"
		tus()
		kind := "object"
		if wire.IsPackName(upload) {
			kind = "pack"
		}
		s.header = append(s.header, [2]string{"Upload-Length", pick(d, "10", "0", strconv.Itoa(len(p.pack)), "16777216")},
			[2]string{"Upload-Metadata", ts.Metadata("session", id, kind, upload)})
		if s.body = pick(d, nil, []byte("0123456789")); s.body != nil {
			s.header = append(s.header, [2]string{"Content-Type", "application/offset+octet-stream"})
		}
	case "patch":
		s = p.patch(id, upload, pick(d, 0, 0, 10, d.roll(30)), d.bytes(30))
		s.kind = "patch"
	case "head", "terminate", "options":
		s.method, s.target = map[string]string{"head": "HEAD", "terminate": "DELETE", "options": "OPTIONS"}[s.kind], file
		tus()
	case "salvage", "finalize":
		s.method, s.target = "POST", session+"/"+s.kind
	case "abort":
		s.method, s.target = "DELETE", session
	case "commitmeta":
		s.target = "/api/v1/commitmeta/" + p.commit.String()
	case "healthz", "metrics":
		s.target = "/" + s.kind
	default:
		s.target = "/api/v1/" + s.kind
	}
	return s
}

// push is the next request of the push.
func (p *player) push() *shot {
	s := &shot{method: "POST", header: [][2]string{{"Authorization", "Bearer " + p.tokens[0]}}}
	switch p.step {
	case 0:
		b, _ := json.Marshal(wire.OpenRequest{Refs: []wire.Ref{{Ref: fmt.Sprint("os/fuzz/", p.opened%p.refs), New: p.commit.String()}}}) // cannot fail
		s.target, s.body = "/api/v1/sessions", b
	case 1:
		s.target, s.body = "/api/v1/sessions/"+p.session+"/objects", wire.FormatNames(p.names)
	case 2:
		s.target = "/files/"
		s.header = append(s.header, [2]string{"Tus-Resumable", "1.0.0"}, [2]string{"Upload-Length", strconv.Itoa(len(p.pack))},
			[2]string{"Upload-Metadata", ts.Metadata("session", p.session, "pack", "all")})
	case 3:
		s = p.patch(p.session, "all", 0, p.pack[:len(p.pack)/2])
	case 4:
		s = p.patch(p.session, "all", len(p.pack)/2, p.pack[len(p.pack)/2:])
	case 5:
		s.target = "/api/v1/sessions/" + p.session + "/finalize"
	case 6:
		s.method, s.target = "DELETE", "/api/v1/sessions/"+p.session
	}
	s.kind = "push"
	return s
}

func (p *player) patch(session, upload string, offset int, b []byte) *shot {
	return &shot{method: "PATCH", target: "/files/" + session + "/" + upload, body: b, header: [][2]string{
		{"Authorization", "Bearer " + p.tokens[0]}, {"Tus-Resumable", "1.0.0"},
		{"Content-Type", "application/offset+octet-stream"}, {"Upload-Offset", strconv.Itoa(offset)},
	}}
}

// send sends a request and reads the answer. Where the server may wait for more, it is
// told that nothing comes.
func (p *player) send(s *shot) (*http.Response, []byte, error) {
	text, whole := s.wire()
	again := p.conn != nil // the server may have closed it meanwhile
	for {
		if p.conn == nil {
			conn, err := net.Dial("tcp", p.address)
			if err != nil {
				return nil, nil, err
			}
			p.conn, p.answer = conn, bufio.NewReader(conn)
		}
		res, body, err := p.exchange(text, whole, s.method)
		if err != nil || !whole || res.Close {
			p.hangUp()
		}
		if err != nil && again {
			again = false
			continue
		}
		return res, body, err
	}
}

func (p *player) exchange(text []byte, whole bool, method string) (res *http.Response, body []byte, err error) {
	if err := p.conn.SetDeadline(time.Now().Add(must.Patience)); err != nil {
		return nil, nil, err
	}
	_, _ = p.conn.Write(text) // a server that does not want all of it has answered
	if !whole {
		_ = p.conn.(*net.TCPConn).CloseWrite() // fails where the server has closed it
	}
	for {
		res, err = http.ReadResponse(p.answer, &http.Request{Method: method})
		if err != nil {
			return nil, nil, fmt.Errorf("no answer: %w", err)
		}
		body, err = io.ReadAll(res.Body)
		if err != nil {
			return nil, nil, fmt.Errorf("answer %d is cut: %w", res.StatusCode, err)
		}
		if res.StatusCode >= 200 {
			return res, body, nil
		}
	}
}

// check tells what is wrong with an answer.
func (p *player) check(s *shot, res *http.Response, body []byte) error {
	ours := res.Header.Get(wire.RequestHeader) != "" // else net/http has refused it
	switch status := res.StatusCode; {
	case status >= 500 && status != 507:
		return fmt.Errorf("answer %d: %s", status, body)
	case status >= 300 && status < 400:
		return fmt.Errorf("a redirect: %d to %q", status, res.Header.Get("Location"))
	case status >= 400 && ours && len(body) > 0:
		var problem wire.Problem
		if err := json.Unmarshal(body, &problem); err != nil || problem.Code() == "" || problem.Status != status {
			return fmt.Errorf("answer %d is no problem: %s", status, body)
		}
	}
	for _, token := range p.tokens {
		if len(token) > 10 && (bytes.Contains(body, []byte(token)) || strings.Contains(fmt.Sprint(res.Header), token)) {
			return errors.New("the answer has a token")
		}
	}
	return nil
}

// learn keeps what there is now, and goes to the next step of the push.
func (p *player) learn(s *shot, res *http.Response, body []byte) {
	done := res.StatusCode < 300
	var opened wire.Session
	if done && json.Unmarshal(body, &opened) == nil && wire.IsSessionID(opened.ID) && res.StatusCode == 201 {
		p.sessions = append(p.sessions[max(0, len(p.sessions)-10):], opened.ID)
		p.mine = append(p.mine, opened.ID)
		p.opened++
		if s.kind == "push" {
			p.session = opened.ID
		}
	}
	switch {
	case s.kind != "push":
	case done && p.step < 5:
		p.step++
	case !done && p.step < 6:
		if p.step == 0 && len(p.mine) > 0 { // there may be too many
			p.session, p.mine = p.mine[0], p.mine[1:]
		}
		p.step = 6
	default:
		p.step = 0
	}
}
