// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"net/http"
	"net/url"
)

// Options say which server to speak to, and how.
type Options struct {
	// Address is http or https, a host, and a path if a proxy puts the server below
	// one; or unix:/path of a socket. User and password in it are for a proxy.
	Address string
	Token   string
	// RenewToken gets the token anew when the server refuses it, and before an ID token
	// expires; nil: it does not change.
	RenewToken TokenSource
	// CAFile holds the authorities to trust, in PEM; "": those of the system.
	CAFile string
	// Cert and Key are files of a client certificate and its key, in PEM, which are
	// read again when they change; Key may be "" if Cert holds both.
	Cert, Key string
	// InsecureHTTP lets an address be plain HTTP of another machine.
	InsecureHTTP bool
	// LimitRate is how many bytes a second all requests together may send; 0: no limit.
	LimitRate int64
}

// A Client speaks the API of one server.
type Client struct {
	at        address
	base      *url.URL // of at
	transport *transport
	http      *http.Client
}

// Open returns the client of a server. It sends nothing. The kind of its errors is
// Usage.
func Open(opt Options) (*Client, error) {
	a, err := parseAddress(opt.Address)
	if err == nil && !opt.InsecureHTTP {
		err = a.checkPlain()
	}
	if err != nil {
		return nil, usageError{err}
	}
	token, err := cleanToken(opt.Token)
	if err != nil {
		return nil, err
	}
	secure, err := newSecurity(opt)
	if err != nil {
		return nil, usageError{err}
	}
	t := newTransport(a, secure, newThrottle(opt.LimitRate))
	t.token.source = opt.RenewToken
	t.token.set(token)
	return &Client{at: a, base: a.url, transport: t, http: &http.Client{Transport: t}}, nil
}

// New is Open for an address and a token.
func New(address, token string) (*Client, error) {
	return Open(Options{Address: address, Token: token})
}

// RequestID is the ID that all requests have.
func (c *Client) RequestID() string { return c.transport.id }

// Reached tells whether the server has answered once.
func (c *Client) Reached() bool { return c.transport.reached.Load() }

// Address is the server's address, without a slash at the end or a login.
func (c *Client) Address() string { return c.at.name }

// AddressToType is the address as it is given in a command. It has the user of a login,
// and a word in the place of the password.
func (c *Client) AddressToType() string { return c.at.toType() }

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// url is where path is, below the address that the user gave.
func (c *Client) url(path string) string { return c.base.String() + "/" + path }
