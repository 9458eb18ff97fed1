// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/libostree"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/idp"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

const audience = "https://repo.example.org"

// trusting starts a server that takes the ID tokens of jobs of example/os.
func trusting(t *testing.T) (*ts.Server, *idp.Issuer) {
	t.Helper()
	s, issuer := ts.Start(t, "archive"), idp.Start(t)
	s.Change(func(c *config.Config) {
		c.OIDC = []token.Trust{{
			Issuer: issuer.URL, Audience: audience, Claims: map[string][]string{"repository": {"example/os"}},
			Name: "gh-os", Refs: &[]string{"os/**"}, Scopes: []string{token.Push},
		}, {
			Issuer: issuer.URL, Audience: audience, Claims: map[string][]string{"repository": {"example/apps"}},
			Name: "gh-apps", Scopes: []string{token.Push},
		}}
	})
	return s, issuer
}

// A job pushes with an ID token what its entry allows, and the next job goes on with the
// sessions of the first: they belong to the name of the entry.
func TestPushWithIDToken(t *testing.T) {
	build, commit := source(t)
	s, issuer := trusting(t)
	first := s.Client(issuer.Sign(issuer.Job(audience).With(idp.Claims{"jti": "1"})))
	second := s.Client(issuer.Sign(issuer.Job(audience).With(idp.Claims{"jti": "2"})))
	session := first.Open(wire.Ref{Ref: "os/x", New: commit.String()})
	if session.Token != "gh-os" {
		t.Errorf("the session is of %s", session.Token)
	}
	var info wire.Info
	must.OK(t, json.Unmarshal(second.Want(200, "GET", "/api/v1/info", nil).Body, &info))
	if info.Token.Name != "gh-os" || (*info.Token.Refs)[0] != "os/**" {
		t.Errorf("the token is %+v", info.Token)
	}
	lacking := second.Negotiate(session.ID, ts.Objects(t, build, commit)...)
	second.Upload(session.ID, "all", ts.Pack(t, build, lacking...))
	if got := second.Finalize(session.ID); got.State != wire.Published || s.Ref("os/x") != commit.String() {
		t.Errorf("%+v", got)
	}
	body, err := json.Marshal(wire.OpenRequest{Refs: []wire.Ref{{Ref: "x", New: commit.String()}}})
	must.OK(t, err)
	first.Want(403, "POST", "/api/v1/sessions", body)
	other := s.Client(issuer.Sign(issuer.Job(audience).With(idp.Claims{"repository": "example/apps"})))
	other.Want(404, "GET", "/api/v1/sessions/"+session.ID, nil)
	other.Want(201, "POST", "/api/v1/sessions", body)
}

// An ID token that is not taken is answered 401 with what to do, and the log says what
// it lacks; one that cannot be verified now is to be sent again.
func TestIDTokenRefused(t *testing.T) {
	s, issuer := trusting(t)
	for name, claims := range map[string]idp.Claims{
		"audience": {"aud": "https://elsewhere.example.org"}, "claims": {"repository": "other/os"},
		"issuer": {"iss": "https://elsewhere.example.org"}, "expired": {"exp": 1000},
	} {
		a := s.Client(issuer.Sign(issuer.Job(audience).With(claims))).Do("GET", "/api/v1/info", nil)
		if p := a.Problem(t); a.Status != 401 || p.HintIs == "" || !strings.Contains(p.Detail, name) || a.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d %+v", name, a.Status, p)
		}
	}
	issuer.Fail(idp.Down)
	a := s.Client(issuer.Sign(issuer.Job(audience))).Do("GET", "/api/v1/info", nil)
	if p := a.Problem(t); a.Status != 503 || p.Code() != wire.Unavailable || a.Header.Get("Retry-After") == "" {
		t.Errorf("%d %+v", a.Status, p)
	}
	s.Client(s.Token).Want(200, "GET", "/api/v1/info", nil) // does not depend on it
}

// brief is how long an ID token is valid that is to be used before that, and then to
// expire.
const brief = 10 * time.Second

// lost is how who has an ID token can lose the right to push, and the status that its
// requests then get.
var lost = map[string]struct {
	status int
	change func(c *config.Config)
}{
	"entry removed":    {401, func(c *config.Config) { c.OIDC = nil }},
	"claims changed":   {401, func(c *config.Config) { c.OIDC[0].Claims = map[string][]string{"ref": {"refs/tags/*"}} }},
	"audience changed": {401, func(c *config.Config) { c.OIDC[0].Audience = "https://elsewhere.example.org" }},
	"fewer refs":       {403, func(c *config.Config) { c.OIDC[0].Refs = &[]string{"other/**"} }},
	"no push":          {403, func(c *config.Config) { c.OIDC[0].Scopes = nil }},
	"expired":          {401, nil},
}

// Who loses the right to push loses it in the middle of an upload; what had arrived is
// kept, and goes on with an ID token that is good.
func TestIDTokenLostInAnUpload(t *testing.T) {
	_, commit := source(t)
	for name, how := range lost {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, issuer := trusting(t)
			validity := time.Minute
			if how.change == nil {
				validity = brief
			}
			sent := issuer.Sign(issuer.Job(audience).With(idp.Claims{"exp": time.Now().Add(validity).Unix()}))
			c := s.Client(sent)
			session := c.Open(wire.Ref{Ref: "os/x", New: commit.String()})
			c.Create(1000, ts.Metadata("session", session.ID, "pack", "p"))
			body, sender := io.Pipe()
			defer sender.Close()
			go func() {
				_, _ = sender.Write(make([]byte, 10))
				for s.Client(s.Admin).Session(session.ID).Bytes.Received < 10 {
				}
				if how.change != nil {
					s.Change(how.change)
				}
			}()
			if got := patch(t, s, sent, session.ID, body); got != how.status {
				t.Errorf("the upload is answered %d, want %d", got, how.status)
			}
			if a := c.Patch(session.ID, "p", 10, make([]byte, 990)); a.Status != how.status {
				t.Errorf("the next request is answered %d", a.Status)
			}
			if how.change == nil { // another ID token of the job is good
				c = s.Client(issuer.Sign(issuer.Job(audience)))
				if a := c.Patch(session.ID, "p", 10, make([]byte, 990)); a.Status != 204 {
					t.Errorf("with another ID token: %d %s", a.Status, a.Body)
				}
			} else if got := s.Client(s.Admin).Session(session.ID).Bytes.Received; got != 10 {
				t.Errorf("%d bytes are kept", got)
			}
		})
	}
}

// What is finalized is published although the ID token has expired by then, and not if
// its entry is gone.
func TestPublishAfterIDToken(t *testing.T) {
	build, commit := source(t)
	for want, entries := range map[string]int{wire.Published: 1, wire.Open: 0} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			s, issuer := trusting(t)
			brief := s.Client(issuer.Sign(issuer.Job(audience).With(idp.Claims{"exp": time.Now().Add(brief).Unix()})))
			session := brief.Open(wire.Ref{Ref: "os/x", New: commit.String()})
			brief.Upload(session.ID, "all", ts.Pack(t, build, brief.Negotiate(session.ID, ts.Objects(t, build, commit)...)...))
			holder, err := libostree.Open(s.Repo)
			must.OK(t, err)
			defer holder.Close()
			must.OK(t, holder.Lock(t.Context(), libostree.Exclusive))
			brief.Want(202, "POST", "/api/v1/sessions/"+session.ID+"/finalize", nil)
			for brief.Do("GET", "/api/v1/info", nil).Status == 200 {
			}
			s.Change(func(c *config.Config) { c.OIDC = c.OIDC[:entries] })
			must.OK(t, holder.Unlock(libostree.Exclusive))
			boss := s.Client(s.Admin)
			got := boss.Session(session.ID)
			for got.State == wire.Verifying || got.State == wire.Publishing {
				got = boss.Wait(session.ID)
			}
			if got.State != want || (s.Ref("os/x") == commit.String()) != (want == wire.Published) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// While many wait for an issuer that is silent, those with a token or with a key that is
// known are answered.
func TestSilentIssuerHoldsNobody(t *testing.T) {
	s, issuer := trusting(t)
	known := issuer.Keypair()
	s.Client(issuer.Sign(issuer.Job(audience))).Want(200, "GET", "/api/v1/info", nil)
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	issuer.Fail(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		select {
		case <-answer:
		case <-r.Context().Done():
		}
	})
	issuer.Rotate()
	var waiting sync.WaitGroup
	for i := range 100 {
		sent := issuer.Sign(issuer.Job(audience).With(idp.Claims{"jti": i}))
		waiting.Go(func() {
			a, err := s.Client(sent).Try("GET", "/api/v1/info", nil)
			if err == nil && a.Status != 503 {
				t.Errorf("%d %s", a.Status, a.Body)
			}
		})
	}
	<-asked
	for i := range 20 {
		s.Client(s.Token).Want(200, "GET", "/api/v1/info", nil)
		s.Client(issuer.SignWith(known, issuer.Job(audience).With(idp.Claims{"jti": i}))).Want(200, "GET", "/api/v1/info", nil)
	}
	close(answer)
	waiting.Wait()
}
