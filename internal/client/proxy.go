// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"github.com/lirios/ostree-upload/internal/hint"
)

// proxyOf returns the function that chooses a proxy as the environment says:
// HTTPS_PROXY or HTTP_PROXY by the address's scheme, else ALL_PROXY, unless
// NO_PROXY names the host. net/http alone does not read ALL_PROXY.
func proxyOf() func(*http.Request) (*url.URL, error) {
	env := httpproxy.FromEnvironment()
	all := cmp.Or(os.Getenv("ALL_PROXY"), os.Getenv("all_proxy"))
	env.HTTPProxy, env.HTTPSProxy = cmp.Or(env.HTTPProxy, all), cmp.Or(env.HTTPSProxy, all)
	choose := env.ProxyFunc()
	return func(req *http.Request) (*url.URL, error) {
		proxy, err := choose(req.URL)
		if err == nil && proxy != nil {
			err = checkProxy(proxy)
		}
		if err != nil {
			return nil, usageError{hint.Add(err, "see HTTPS_PROXY, HTTP_PROXY and ALL_PROXY; NO_PROXY names hosts that need none")}
		}
		return proxy, nil
	}
}

// checkProxy refuses what net/http would take for an HTTP proxy, and reads
// socks://, as desktops write it, as SOCKS 5.
func checkProxy(proxy *url.URL) error {
	switch proxy.Scheme = strings.ToLower(proxy.Scheme); proxy.Scheme {
	case "http", "https", "socks5", "socks5h":
		return nil
	case "socks":
		proxy.Scheme = "socks5"
		return nil
	}
	return fmt.Errorf("proxy %s is neither http, https nor socks5", proxy.Redacted())
}

// onConnect makes the error of a proxy that does not open the way to the server.
func onConnect(_ context.Context, proxy *url.URL, req *http.Request, res *http.Response) error {
	if res.StatusCode == http.StatusOK {
		return nil
	}
	p := &answerError{header: res.Header, problem: bareProblem(res.StatusCode)}
	p.problem.Detail = fmt.Sprintf("proxy %s answers %q to CONNECT %s", proxy.Redacted(), res.Status, req.Host)
	p.problem.HintIs = "does the proxy allow that address?"
	if res.StatusCode == http.StatusProxyAuthRequired {
		p.problem.HintIs = proxyLoginHint
	}
	return p
}
