// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A token of scope admin is told of all tokens, another of itself, and nobody of anything
// that could be used in place of one.
func TestTokens(t *testing.T) {
	s := ts.Start(t, "archive")
	for _, tt := range []struct {
		secret string
		want   string
	}{{s.Admin, "ci boss other"}, {s.Token, "ci"}, {s.Other, "other"}} {
		body := s.Client(tt.secret).Want(200, "GET", "/api/v1/tokens", nil).Body
		var list token.List
		must.OK(t, json.Unmarshal(body, &list))
		var names []string
		for _, l := range list.Tokens {
			names = append(names, l.Name)
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("listed are %s, want %s", got, tt.want)
		}
		for _, secret := range []string{s.Admin, s.Token, s.Other} {
			if text := string(body); strings.Contains(text, secret) || strings.Contains(text, token.Hash(secret)) || strings.Contains(text, "sha256") {
				t.Errorf("a secret is listed: %s", text)
			}
		}
	}
}

// A session tells on demand what its commits say, and how it came where it is; the log of
// a ref tells the same of its moves.
func TestCommits(t *testing.T) {
	s := ts.Start(t, "archive")
	build := t.TempDir() + "/build"
	first := ts.Commit(t, build, "os/x", "1", 3)
	must.Run(t, "ostree", "--repo="+build, "commit", "--branch=os/x", "--tree=ref=os/x", "--parent="+first.String(), "--subject="+strings.Repeat("é", 150)+"<b>", "--timestamp=@1700000000")
	second := must.Run(t, "ostree", "--repo="+build, "rev-parse", "os/x")
	client := s.Client(s.Token)
	client.Push(build, wire.Ref{Ref: "os/x", New: first.String()})
	session := client.Push(build, wire.Ref{Ref: "os/x", Old: first.String(), New: second})

	var got wire.Session
	must.OK(t, json.Unmarshal(client.Want(200, "GET", "/api/v1/sessions/"+session.ID+"?few=1&commits=1", nil).Body, &got))
	info := got.Commits[second]
	if info.Subject != strings.Repeat("é", 100) || info.Time.Unix() != 1700000000 || len(got.Commits) != 2 {
		t.Errorf("commits are %v", got.Commits)
	}
	var states []string
	for _, step := range got.Steps {
		states = append(states, step.State)
	}
	if strings.Join(states, " ") != "open verifying publishing published" || got.Remote != "127.0.0.1" {
		t.Errorf("states %v, from %q", states, got.Remote)
	}
	var log wire.RefLog
	must.OK(t, json.Unmarshal(client.Want(200, "GET", "/api/v1/refs/os/x/log?commits=1", nil).Body, &log))
	if len(log.Commits) != 2 || log.Moves[0].Bytes == 0 {
		t.Errorf("log is %+v", log)
	}
}
