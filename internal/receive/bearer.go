// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/idtoken"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
)

var errNoToken = errors.New("no token was sent")

// bearer finds the token of a request: one of the list, or what an ID token stands for.
// The error is a *token.Denied if it may be used for other repositories only.
func (s *Server) bearer(r *request) (*token.Token, error) {
	sent, settings := sentToken(r.Header), s.cfg.Settings()
	if sent == "" && signedIn(r.Context()) == "" {
		return nil, errNoToken
	}
	t, err := s.tokenOf(r, settings, sent)
	whole := settings.Whole()
	if settings.Name == "" || !errors.Is(err, token.ErrUnknown) && !errors.As(err, new(*idtoken.RefusedError)) {
		return t, err
	}
	if t, err = s.tokenOf(r, whole, sent); err == nil {
		err = elsewhere(t, settings.Name)
	}
	return nil, err
}

// elsewhere says that a token may not be used for a repository.
func elsewhere(t *token.Token, repository string) error {
	d := &token.Denied{Reason: fmt.Sprintf("token %s may not be used for repository %s", t.Name, repository), Next: "use another token"}
	if t.Repositories != nil && len(*t.Repositories) > 0 {
		d.Next += ", or this one for " + strings.Join(*t.Repositories, ", ")
	}
	return d
}

// tokenOf finds what was sent among the tokens of a configuration.
func (s *Server) tokenOf(r *request, settings *config.Config, sent string) (*token.Token, error) {
	if hash := signedIn(r.Context()); hash != "" {
		return token.FindHash(settings.Tokens, hash, time.Now())
	}
	t, err := token.Find(settings.Tokens, sent, time.Now())
	if errors.Is(err, token.ErrUnknown) && idtoken.Is(sent) {
		return s.idTokens.Token(r.Context(), settings, sent)
	}
	return t, err
}

// begin waits for the turn of a request, by its token. unknown is what is wrong with the
// token, which may have been taken away meanwhile.
func (s *Server) begin(w http.ResponseWriter, r *request) (unknown, err error) {
	came, name := time.Now(), ""
	t, unknown := s.bearer(r)
	if unknown == nil {
		name = t.Name
	}
	if r.work, err = s.shares.begin(r.Context(), name); err != nil {
		w.Header().Set("Retry-After", "1")
		return nil, err
	}
	r.work.looks = r.Method == http.MethodGet
	if time.Since(came) > lookEvery {
		t, unknown = s.bearer(r)
	}
	r.token = t
	return unknown, nil
}

// refuse answers a request whose token was not found, because of err.
func refuse(w http.ResponseWriter, err error) error {
	var unavailable *idtoken.UnavailableError
	if errors.As(err, new(*token.Denied)) {
		return err
	}
	if errors.As(err, &unavailable) {
		w.Header().Set("Retry-After", strconv.Itoa(int(unavailable.After/time.Second)+1))
	} else {
		w.Header().Set("WWW-Authenticate", `Bearer realm="ostree-upload"`)
	}
	return refusal(err)
}

func refusal(err error) error {
	p := wire.Errorf(wire.Unauthorized, "%v", err)
	var expired *token.ExpiredError
	var replaced *token.ReplacedError
	var refused *idtoken.RefusedError
	var unavailable *idtoken.UnavailableError
	switch {
	case errors.Is(err, errNoToken):
		return p.WithHint("send one that `ostree-upload gentoken` has made on the server")
	case errors.As(err, &expired):
		return p.WithHint("give it another secret on the server: ostree-upload gentoken --replace --name %s", expired.Name)
	case errors.As(err, &replaced):
		return p.WithHint("use the one that replaced it, or make another on the server: ostree-upload gentoken --replace --name %s", replaced.Name)
	case errors.As(err, &refused):
		return &detailed{p.WithHint("%s", refused.Next), refused.Detail}
	case errors.As(err, &unavailable):
		return wire.Errorf(wire.Unavailable, "%v", err).WithHint("try again in a while; the server's log says why the issuer cannot be asked")
	}
	return p.WithHint("make a token on the server: ostree-upload gentoken")
}

// detailed is a refusal of which the log tells more than the answer.
type detailed struct {
	problem *wire.Problem
	detail  string
}

func (d *detailed) Unwrap() error { return d.problem }

func (d *detailed) Error() string {
	if d.detail == "" {
		return d.problem.Error()
	}
	return d.problem.Error() + ": " + d.detail
}
