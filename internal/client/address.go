// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/lirios/ostree-upload/internal/hint"
)

// An address is where a server is.
type address struct {
	name   string        // as people give it, without a login
	url    *url.URL      // what requests are for, without a slash or a login
	login  *url.Userinfo // for a proxy in front of the server, or nil
	via    *via          // the proxy on the way there, or nil
	socket string        // the path of a unix socket, over which they go, or ""
}

const addressHint = "give it like https://updates.example.org or http://localhost:8080, or unix:/run/ostree-upload.sock for a socket of this machine"

func parseAddress(given string) (a address, err error) {
	u, err := url.Parse(given)
	if err == nil && u.Scheme == "unix" {
		return socketAddress(given, u)
	}
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return a, hint.Add(fmt.Errorf("%q is not the address of a server", withoutLogin(given)), addressHint)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return a, fmt.Errorf("the port of %q is not between 1 and 65535", withoutLogin(given))
		}
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return a, hint.Add(fmt.Errorf("the address of the server at %s has a query or a fragment", u.Host),
			"leave out what begins with ? or #; the token has its own option")
	}
	if strings.Contains(u.User.Username(), ":") {
		return a, fmt.Errorf("the user in the address of the server at %s has a colon, which no login can have (RFC 7617)", u.Host)
	}
	if strings.EqualFold(u.Hostname(), "localhost") { // which no proxy may be asked for
		u.Host = strings.ToLower(u.Host)
	}
	a.login, u.User = u.User, nil
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	a.name, a.url = u.String(), u
	a.via, err = viaOf(u)
	return a, err
}

// withoutLogin leaves out what may be user and password of an address that cannot be
// read.
func withoutLogin(given string) string {
	at := strings.LastIndexByte(given, '@') + 1
	for _, scheme := range []string{"https://", "http://"} {
		if at > 0 && strings.HasPrefix(given, scheme) {
			return scheme + given[at:]
		}
	}
	return given[at:]
}

// toType is the address as it is given in a command, with a word for the password.
func (a address) toType() string {
	if a.login == nil {
		return a.name
	}
	u := *a.url
	u.User = url.User(a.login.Username())
	if _, secret := a.login.Password(); secret {
		u.User = url.UserPassword(a.login.Username(), "PASSWORD")
	}
	return u.String()
}

// maxSocketPath is the longest path of a unix socket on Linux (unix(7)).
const maxSocketPath = 107

// socketAddress reads unix:/path and unix:///path. Behind :/ there is a path of the URL, as
// in unix:/path:/os for the repository os of a server that has several.
func socketAddress(given string, u *url.URL) (a address, err error) {
	at, below, _ := strings.Cut(u.Path, ":/")
	below = strings.Trim(below, "/")
	if below != "" {
		below = "/" + below
	}
	u.Path = at
	if u.Host != "" || u.Opaque != "" || !strings.HasPrefix(u.Path, "/") || strings.HasSuffix(u.Path, "/") || u.RawQuery != "" || u.Fragment != "" {
		return a, hint.Add(fmt.Errorf("%q is not the address of a unix socket", given), "give its whole path, as in unix:/run/ostree-upload.sock")
	}
	if n := len(u.Path); n > maxSocketPath {
		return a, fmt.Errorf("the path of the unix socket %s has %d bytes, and can have %d", u.Path, n, maxSocketPath)
	}
	a = address{name: "unix:" + u.Path, url: &url.URL{Scheme: "http", Host: "localhost", Path: below}, socket: u.Path}
	if below != "" {
		a.name += ":" + below
	}
	return a, nil
}

// checkPlain refuses plain HTTP that leaves this machine: whoever is on the way reads
// the token, and can push with it.
func (a address) checkPlain() error {
	if a.socket != "" || !isPlain(a.url) {
		return nil
	}
	secure := *a.url
	secure.Scheme = "https"
	return hint.Add(fmt.Errorf("%s is plain HTTP to another machine: whoever is on the way can read the token", a.name),
		"use --address %s; if the whole way is your own, --insecure-http allows it", &secure)
}

// isPlain is true for plain HTTP to another machine.
func isPlain(u *url.URL) bool { return u.Scheme == "http" && !isLoopback(u.Hostname()) }

// isLoopback is true for the names and addresses that lead to this machine whatever a
// name server says, and that no proxy is asked for.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}
