// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/outproxy"
	"github.com/lirios/ostree-upload/test/site"
)

// collecting is nginx as people set it up: requests of 1 MB at most, collected before
// they are handed on.
const collecting = `
    client_max_body_size 1m;
    location / {
      proxy_pass http://SERVER;
      proxy_request_buffering on;
    }`

// A firewall that lets only GET, HEAD and POST through keeps nobody from pushing.
func TestThroughFirewall(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"403", "405", "501", "444"} { // 444 closes the connection
		t.Run(status, func(t *testing.T) {
			s, b := site.New(t), site.Small(t, "os/small", t.Name())
			s.Nginx(`
    client_max_body_size 16m;
    if ($request_method !~ ^(GET|HEAD|POST)$) { return ` + status + `; }
    location / { proxy_pass http://SERVER; }`)
			if r := s.Push(b); r.Retries != 0 {
				t.Errorf("%d retries", r.Retries)
			}
			site.Published(t, b, s.Prod)
		})
	}
}

// What real proxies answer in the server's place is named as theirs, and ends the push
// with the right code. Each answer is below a path of its own.
func TestAnswersOfProxies(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	must.OK(t, err)
	defer silent.Close()
	nowhere := site.FreeAddress(t)
	exits := map[string]int{
		"401": 3, "403": 75, "404": 1, "405": 1, "407": 1, "408": 75, "413": 1, "429": 75,
		"500": 75, "501": 1, "502": 75, "503": 75, "504": 75, "511": 75, "page": 75, "302": 75, "gone": 75, "slow": 75,
	}
	of := func(nginx, haproxy string) (text [2]string) {
		for path := range exits {
			if len(path) == 3 && path != "302" {
				text[0] += fmt.Sprintf("location /%[1]s/ { return %[1]s; }\n", path)
				text[1] += fmt.Sprintf("http-request return status %[1]s content-type text/html string <html> if { path_beg /%[1]s/ }\n", path)
			}
		}
		text[0], text[1] = text[0]+nginx, text[1]+haproxy
		for i := range text {
			text[i] = strings.NewReplacer("SILENT", silent.Addr().String(), "NOWHERE", nowhere).Replace(text[i])
		}
		return text
	}
	text := of(`
    location /302/ { return 302 /portal/login; }
    location /page/ { default_type text/html; return 200 "<html>log in</html>"; }
    location /gone/ { proxy_pass http://NOWHERE; }
    location /slow/ { proxy_pass http://SILENT; proxy_read_timeout 1s; }`, `
  http-request redirect location /portal/login code 302 if { path_beg /302/ }
  http-request return status 200 content-type text/html string <html> if { path_beg /page/ }
  use_backend gone if { path_beg /gone/ }
  use_backend slow if { path_beg /slow/ }
backend gone
  server one NOWHERE
backend slow
  server one SILENT`)
	for i, start := range []func(*site.Site, string){(*site.Site).Nginx, (*site.Site).HAProxy} {
		t.Run([]string{"nginx", "haproxy"}[i], func(t *testing.T) {
			s, b := site.New(t), site.Small(t, "os/small", "answers")
			start(s, text[i])
			address := s.URL
			for path, exit := range exits {
				if path == "408" && i == 0 {
					continue // nginx closes the connection instead
				}
				s.URL = address + "/" + path
				said := s.Run("push", "--repo", b.Repo, "--retry-for", "0s").Must(t, exit).Stderr
				status := map[string]string{"page": "text/html", "gone": "50", "slow": "504"}[path]
				if !strings.Contains(said, "a proxy") || !strings.Contains(said, cmp.Or(status, path)) || !strings.Contains(said, "hint: ") && exit != 75 {
					t.Errorf("%s: %s", path, said)
				}
				t.Logf("%s: exit %d: %s", path, exit, said)
			}
		})
	}
}

// From a network that has the way out by a proxy alone, with a login.
func TestThroughProxiesOfTheNetwork(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"} {
		t.Setenv(name, "")
		t.Setenv(strings.ToLower(name), "")
	}
	for _, c := range []struct {
		variable, scheme string
		start            func(t testing.TB, target, login string) *outproxy.Proxy
	}{{"HTTP_PROXY", "http", outproxy.HTTP}, {"ALL_PROXY", "socks5h", outproxy.SOCKS}} {
		t.Run(c.variable, func(t *testing.T) {
			s, b := site.New(t), site.Small(t, "os/small", c.variable)
			proxy := c.start(t, s.Server.Address, "me:secret")
			s.URL = "http://repo.example.org"
			push := []string{"push", "--insecure-http", "--repo", b.Repo}
			t.Setenv(c.variable, c.scheme+"://me:wrong@"+proxy.Address)
			said := s.Run(push...).Must(t, 1).Stderr
			if !strings.Contains(said, "xxxxx@"+proxy.Address+" ("+c.variable+")") || !strings.Contains(said, "password in "+c.variable) || strings.Contains(said, "wrong") {
				t.Errorf("%s", said)
			}
			t.Setenv(c.variable, c.scheme+"://me:secret@"+proxy.Address)
			s.Run(push...).Must(t, 0)
			site.Published(t, b, s.Prod)
		})
	}
}

// Below a path, behind a proxy that wants user and password: both get what is theirs,
// the password is told to nobody else, and the log knows who asked.
func TestBelowAPathBehindALogin(t *testing.T) {
	t.Parallel()
	s, b := site.New(t), site.Small(t, "os/small", "login")
	s.Configure("trusted-proxies: [127.0.0.1]")
	must.OK(t, os.WriteFile(filepath.Join(s.Dir, "passwords"), []byte("me:{PLAIN}pass word@\n"), 0o644))
	s.Nginx(`
    client_max_body_size 16m;
    location /some/prefix/ {
      auth_basic gate;
      auth_basic_user_file ` + s.Dir + `/passwords;
      proxy_set_header X-Forwarded-For 203.0.113.9;
      proxy_pass http://SERVER/;
    }`)
	address := strings.TrimPrefix(s.URL, "http://") + "/some/prefix"
	for login, hint := range map[string]string{
		"":              "give it in the address, as in http://user:password@" + address,
		"me:passwords@": "does not take the user and the password",
	} {
		s.URL = "http://" + login + address
		said := s.Run("push", "--repo", b.Repo, "--retry-for", "1s").Must(t, push.ExitRefused).Stderr
		if !strings.Contains(said, "a proxy (nginx") || !strings.Contains(said, "401") || !strings.Contains(said, hint) || strings.Contains(said, "passwords") {
			t.Errorf("%s", said)
		}
	}
	s.URL = "http://me:pass%20word%40@" + address + "/"
	token := s.Token
	s.Token = "wrong"
	if said := s.Run("push", "--repo", b.Repo).Must(t, push.ExitRefused).Stderr; strings.Contains(said, "proxy") || !strings.Contains(said, "token") {
		t.Errorf("%s", said)
	}
	s.Token = token
	s.Push(b)
	site.Published(t, b, s.Prod)
	s.Run("sessions").Must(t, 0)
	if log := s.Server.Log.String(); !strings.Contains(log, "remote=203.0.113.9") || strings.Contains(log, "pass word") || strings.Contains(log, "remote=127.0.0.1") {
		t.Errorf("%s", log)
	}
}
