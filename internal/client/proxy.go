// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"github.com/lirios/ostree-upload/internal/hint"
)

// A via is the proxy of this machine's network that requests go through.
type via struct {
	url      *url.URL
	variable string // of the environment, that names it
}

// String names the proxy without its password.
func (v *via) String() string { return fmt.Sprintf("proxy %s (%s)", v.url.Redacted(), v.variable) }

// lead has the requests of t go through the proxy, if there is one.
func (v *via) lead(t *http.Transport) {
	if v != nil {
		t.Proxy, t.OnProxyConnectResponse = http.ProxyURL(v.url), v.onConnect
	}
}

// viaOf is the proxy that the environment names for an address: HTTPS_PROXY or
// HTTP_PROXY by the address's scheme, else ALL_PROXY, unless NO_PROXY names the host;
// nil for none. net/http alone does not read ALL_PROXY, and goes without a proxy where
// it cannot read one.
func viaOf(base *url.URL) (*via, error) {
	v := &via{}
	given := ""
	scheme := strings.ToUpper(base.Scheme) + "_PROXY"
	for _, v.variable = range []string{scheme, strings.ToLower(scheme), "ALL_PROXY", "all_proxy"} {
		if given = os.Getenv(v.variable); given != "" {
			break
		}
	}
	if given == "" {
		return nil, nil
	}
	env := httpproxy.FromEnvironment() // for NO_PROXY
	env.HTTPProxy, env.HTTPSProxy = "http://any", "http://any"
	wanted, err := env.ProxyFunc()(base)
	if err != nil { // HTTP_PROXY may be a header of a request that a CGI program answers
		return nil, hint.Add(err, "give the proxy in ALL_PROXY")
	}
	if wanted == nil {
		return nil, nil
	}
	v.url, err = parseProxy(given)
	if err != nil {
		return nil, hint.Add(fmt.Errorf("%s: %w", v.variable, err),
			"give it as http://HOST:PORT or socks5://HOST:PORT; NO_PROXY names hosts that need none")
	}
	return v, nil
}

// parseProxy reads the address of a proxy, of HTTP if it has no scheme. It refuses what
// net/http would take for an HTTP proxy, and reads socks://, as desktops write it, as
// SOCKS 5.
func parseProxy(given string) (*url.URL, error) {
	if !strings.Contains(given, "://") {
		given = "http://" + given
	}
	u, err := url.Parse(given)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("this is not the address of a proxy") // which may hold a password
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return u, nil
	case "socks":
		u.Scheme = "socks5"
		return u, nil
	}
	return nil, fmt.Errorf("%s is neither http, https nor socks5", u.Redacted())
}

// onConnect makes the error of a proxy that does not open the way to the server.
func (v *via) onConnect(_ context.Context, _ *url.URL, req *http.Request, res *http.Response) error {
	if res.StatusCode == http.StatusOK {
		return nil
	}
	p := &answerError{header: res.Header, problem: bareProblem(res.StatusCode)}
	p.problem.Detail = fmt.Sprintf("%s answers %q to CONNECT %s", v, res.Status, req.Host)
	p.problem.HintIs = v.passHint()
	if res.StatusCode == http.StatusProxyAuthRequired || res.StatusCode == http.StatusUnauthorized { // as tinyproxy says of a wrong one
		p.problem.HintIs = v.loginHint()
	}
	return p
}

// loginHint is the next step where a proxy wants a login; v is nil if the proxy is not
// one of the environment.
func (v *via) loginHint() string {
	switch {
	case v == nil:
		return "a proxy on the way wants a login: name it in HTTP_PROXY or HTTPS_PROXY, as in http://user:password@HOST:PORT"
	case v.url.User != nil:
		return fmt.Sprintf("it does not take the user and the password in %s", v.variable)
	}
	with := url.URL{Scheme: v.url.Scheme, Host: v.url.Host, User: url.UserPassword("user", "password")}
	return fmt.Sprintf("it wants a login: give it in %s, as in %s", v.variable, &with)
}

// passHint is the next step where a proxy does not get through.
func (v *via) passHint() string {
	return fmt.Sprintf("is the server running, is the address right, and does the proxy allow it? "+
		"Without it, if there is another way: NO_PROXY, or no %s", v.variable)
}

// networkHint is networkHint for what fails on the way through the proxy.
func (v *via) networkHint(err error) (text string, lasting bool) {
	if unreached(err) {
		return fmt.Sprintf("is the proxy running, and is %s right? NO_PROXY names hosts that need none", v.variable), false
	}
	// The errors of SOCKS (RFC 1928, 1929) have no types.
	for _, login := range []string{"username/password", "no acceptable authentication methods"} {
		if strings.Contains(err.Error(), login) {
			return v.loginHint(), true
		}
	}
	if strings.Contains(err.Error(), "socks connect") {
		return v.passHint(), false
	}
	return networkHint(err)
}
