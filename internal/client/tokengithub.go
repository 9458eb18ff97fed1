// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/lirios/ostree-upload/internal/hint"
)

// How long GitHub is asked for an ID token before it is the push that tries again, and
// how long one answer may take.
const (
	githubPatience = 10 * time.Second
	githubTime     = 20 * time.Second
)

// GitHub is where a job in GitHub Actions gets its ID tokens.
type GitHub struct {
	URL      string // ACTIONS_ID_TOKEN_REQUEST_URL
	Token    string // ACTIONS_ID_TOKEN_REQUEST_TOKEN
	Audience string // whom the ID token is for
}

// Audience is the one of ID tokens for the server at an address: the address itself, as
// people give it.
func Audience(given string) (string, error) {
	a, err := parseAddress(given)
	if err != nil {
		return "", usageError{err}
	}
	if a.socket != "" {
		return "", usageError{hint.Add(errors.New("an ID token cannot be for a unix socket"), "give --audience, as the server's configuration has it under oidc")}
	}
	return a.name, nil
}

// IDToken gets an ID token (TokenSource). That GitHub does not answer is Temporary.
func (g GitHub) IDToken(ctx context.Context) (token string, err error) {
	retrier := NewRetrier(githubPatience, githubPatience, new(atomic.Int64), slog.New(slog.DiscardHandler))
	err = retrier.Do(ctx, "get an ID token from GitHub", func() (err error) {
		token, err = g.ask(ctx)
		return err
	})
	return token, err
}

func (g GitHub) ask(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, githubTime)
	defer cancel()
	req, err := g.request(ctx)
	if err != nil {
		return "", err
	}
	via, err := viaOf(req.URL)
	if err != nil {
		return "", usageError{err}
	}
	// The job's own secret is for this address alone: no redirect is followed.
	t := &http.Transport{DisableKeepAlives: true, TLSHandshakeTimeout: githubTime}
	via.lead(t)
	res, err := t.RoundTrip(req)
	if err != nil {
		return "", hint.Add(&networkError{req.URL.Host, via, err}, githubDownHint)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, mostPrinted))
	if err != nil {
		return "", hint.Add(&networkError{req.URL.Host, via, err}, githubDownHint)
	}
	return readIDToken(res, b)
}

func (g GitHub) request(ctx context.Context) (*http.Request, error) {
	at, err := url.Parse(g.URL)
	if err != nil || at.Host == "" {
		return nil, errors.New("ACTIONS_ID_TOKEN_REQUEST_URL is no address")
	}
	query := at.Query()
	query.Set("audience", g.Audience)
	at.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+g.Token)
	req.Header.Set("Accept", "application/json")
	return req, nil
}

// readIDToken reads GitHub's answer, of which no error repeats anything.
func readIDToken(res *http.Response, body []byte) (string, error) {
	if res.StatusCode != http.StatusOK {
		err := fmt.Errorf("%s answers %s", res.Request.URL.Host, res.Status)
		if res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests {
			return "", hint.Add(retryableError{err}, githubDownHint)
		}
		return "", hint.Add(err, githubHint)
	}
	var answer struct {
		Value string `json:"value"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Value == "" {
		return "", hint.Add(fmt.Errorf("the answer of %s has no ID token", res.Request.URL.Host), githubHint)
	}
	return answer.Value, nil
}

const githubDownHint = "run the job again later: a push goes on where an earlier one stopped"

const githubHint = "the job needs `permissions: {id-token: write}`, and then gets one for as long as it runs"
