// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/lirios/ostree-upload/internal/hint"
)

// A Client speaks the API of one server.
type Client struct {
	base      *url.URL // without a slash at the end
	transport *transport
	http      *http.Client
}

// New returns the client of the server at address: http or https, a host, and a
// path if a proxy puts the server below one. It sends nothing. The kind of its
// errors is Usage.
func New(address, token string) (*Client, error) {
	base, err := parseAddress(address)
	if err != nil {
		return nil, usageError{err}
	}
	if token, err = cleanToken(token); err != nil {
		return nil, err
	}
	t := newTransport(base, token)
	return &Client{base: base, transport: t, http: &http.Client{Transport: t}}, nil
}

// RenewToken sets how the token is read again when the server refuses it. It is
// called before the first request.
func (c *Client) RenewToken(read func() (string, error)) { c.transport.token.read = read }

func parseAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, hint.Add(fmt.Errorf("%q is not the address of a server", address), "give it like https://updates.example.org or http://localhost:8080")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return nil, fmt.Errorf("the port of %q is not between 1 and 65535", address)
		}
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.User != nil {
		return nil, hint.Add(fmt.Errorf("the address of the server at %s has more than a host and a path", u.Host),
			"leave out user, query and fragment; the token has its own option")
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return u, nil
}

// RequestID is the ID that all requests have.
func (c *Client) RequestID() string { return c.transport.id }

// Reached tells whether the server has answered once.
func (c *Client) Reached() bool { return c.transport.reached.Load() }

// Address is the server's address, without a slash at the end.
func (c *Client) Address() string { return c.base.String() }

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// url is where path is, below the address that the user gave.
func (c *Client) url(path string) string { return c.base.String() + "/" + path }
