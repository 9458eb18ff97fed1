// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/certs"
	"github.com/lirios/ostree-upload/test/fake"
	"github.com/lirios/ostree-upload/test/must"
)

// Plain HTTP goes to this machine alone, unless somebody allows it.
func TestPlainHTTPToAnotherMachine(t *testing.T) {
	for address, refused := range map[string]bool{
		"http://localhost:8080": false, "http://127.0.0.1": false, "http://127.3.2.1:1": false, "http://[::1]:8080/below": false,
		"http://[::ffff:127.0.0.1]": false, "https://repo.example.org": false, "unix:/run/x.sock": false,
		"http://LocalHost:8080":   false,
		"http://repo.example.org": true, "http://localhost.example.org": true, "http://127.0.0.1.example.org:80": true,
		"http://10.0.0.1": true, "http://[fe80::1]": true, "http://0.0.0.0": true, "http://example.localhost": true,
	} {
		_, err := New(address, "sesame")
		if refused != (err != nil) {
			t.Errorf("%s: %v", address, err)
		}
		if refused && (KindOf(err) != Usage || !strings.Contains(err.Error(), address) ||
			!strings.Contains(hint.Of(err), strings.Replace(address, "http", "https", 1)) || !strings.Contains(hint.Of(err), "--insecure-http")) {
			t.Errorf("%s: %v, hint %q", address, err, hint.Of(err))
		}
		if _, err := Open(Options{Address: address, InsecureHTTP: true}); err != nil {
			t.Errorf("%s, allowed: %v", address, err)
		}
	}
}

// An https:// address that redirects to plain HTTP is not one to follow.
func TestRedirectToPlainHTTP(t *testing.T) {
	ca := certs.New(t, filepath.Join(t.TempDir(), "ca.pem"))
	s := secure(t, ca, &tls.Config{}, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://repo.example.org"+r.URL.Path, http.StatusMovedPermanently)
	})
	c, err := Open(Options{Address: s, CAFile: ca.File})
	must.OK(t, err)
	_, err = c.Info(t.Context())
	if KindOf(err) != Permanent || !strings.Contains(err.Error(), "redirects to plain HTTP") || strings.Contains(hint.Of(err), "--address") {
		t.Errorf("%v, hint %q", err, hint.Of(err))
	}
}

// secure serves HTTPS, and returns the address.
func secure(t *testing.T, ca *certs.Authority, config *tls.Config, answer http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(answer)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	config.Certificates = []tls.Certificate{ca.Issue(t, "127.0.0.1", time.Now().Add(time.Hour))}
	s.TLS = config
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

func answerInfo(w http.ResponseWriter, _ *http.Request) {
	fake.Reply(w, 200, wire.Info{Version: "secure"})
}

// The authorities of a file are trusted in place of the system's, and an error names
// all ways to trust another one.
func TestAuthoritiesOfAFile(t *testing.T) {
	dir := t.TempDir()
	ca, other := certs.New(t, filepath.Join(dir, "ca.pem")), certs.New(t, filepath.Join(dir, "other.pem"))
	s := secure(t, ca, &tls.Config{}, answerInfo)
	for file, says := range map[string]string{ca.File: "", other.File: "only the authorities in " + other.File, "": "by --ca-file, or in SSL_CERT_FILE"} {
		c, err := Open(Options{Address: s, CAFile: file})
		must.OK(t, err)
		info, err := c.Info(t.Context())
		switch {
		case says == "" && (err != nil || info.Version != "secure"):
			t.Errorf("%v", err)
		case says != "" && (KindOf(err) != Permanent || !strings.Contains(hint.Of(err), says)):
			t.Errorf("%s: %v, hint %q", file, err, hint.Of(err))
		}
	}
	must.OK(t, os.WriteFile(filepath.Join(dir, "empty"), []byte("no certificate\n"), 0o600))
	for _, file := range []string{"empty", "none"} {
		if _, err := Open(Options{Address: s, CAFile: filepath.Join(dir, file)}); KindOf(err) != Usage || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// clientSite is a server that wants client certificates of an authority.
type clientSite struct {
	ca      *certs.Authority
	files   certs.Files
	address string
}

func newClientSite(t *testing.T, version uint16) *clientSite {
	t.Helper()
	dir := t.TempDir()
	s := &clientSite{ca: certs.New(t, filepath.Join(dir, "ca.pem")), files: certs.In(dir)}
	pool := x509.NewCertPool()
	text, err := os.ReadFile(s.ca.File)
	must.OK(t, err)
	pool.AppendCertsFromPEM(text)
	s.address = secure(t, s.ca, &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MaxVersion: version}, answerInfo)
	return s
}

// client shows the certificate of the site's files, if it has one.
func (s *clientSite) client(t *testing.T, has bool) *Client {
	t.Helper()
	opt := Options{Address: s.address, CAFile: s.ca.File}
	if has {
		opt.Cert, opt.Key = s.files.Cert, s.files.Key
	}
	c, err := Open(opt)
	must.OK(t, err)
	t.Cleanup(c.Close)
	return c
}

// A server that wants a client certificate gets the one that is given; where it wants
// another, the error says what is wrong with it, and the hint what to do.
func TestClientCertificate(t *testing.T) {
	for name, version := range map[string]uint16{"TLS 1.3": tls.VersionTLS13, "TLS 1.2": tls.VersionTLS12} {
		s := newClientSite(t, version)
		other := certs.New(t, filepath.Join(t.TempDir(), "other.pem"))
		for _, c := range []struct {
			by    *certs.Authority // nil: none
			until time.Duration
			says  string
			hint  string
		}{
			{s.ca, time.Hour, "", ""},
			{nil, 0, "certificate", "by --client-cert and --client-key (OSTREE_UPLOAD_CLIENT_CERT"},
			{s.ca, -time.Hour, "the server refuses the client certificate " + s.files.Cert, "it ended on "},
			{other, time.Hour, "the server refuses the client certificate " + s.files.Cert, `it is issued by "CN=other.pem"`},
		} {
			if c.by != nil {
				c.by.Write(t, s.files, "builder", time.Now().Add(c.until))
			}
			_, err := s.client(t, c.by != nil).Info(t.Context())
			if c.says == "" && err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if c.says != "" && (KindOf(err) != Permanent || !strings.Contains(err.Error(), c.says) || !strings.Contains(hint.Of(err), c.hint)) {
				t.Errorf("%s: %v, kind %d, hint %q; want %q and %q", name, err, KindOf(err), hint.Of(err), c.says, c.hint)
			}
		}
	}
}

// A proxy that wants a client certificate may ask for it in an answer.
func TestClientCertificateForAProxy(t *testing.T) {
	_, c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Server", "nginx/1.22.1")
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, "<html><head><title>400 No required SSL certificate was sent</title></head></html>")
	})
	_, err := c.Info(t.Context())
	if KindOf(err) != Permanent || !strings.Contains(err.Error(), "nginx") || !strings.Contains(hint.Of(err), "--client-cert") {
		t.Errorf("%v, hint %q", err, hint.Of(err))
	}
}

// A client certificate that is renewed while a push runs is used from the next
// connection on, and not before both of its files are there.
func TestClientCertificateIsRenewed(t *testing.T) {
	s := newClientSite(t, tls.VersionTLS13)
	s.ca.Write(t, s.files, "builder", time.Now().Add(-time.Hour))
	c := s.client(t, true)
	if _, err := c.Info(t.Context()); err == nil {
		t.Fatal("a certificate that has ended was taken")
	}
	spare := certs.In(t.TempDir())
	s.ca.Write(t, spare, "builder", time.Now().Add(time.Hour))
	must.OK(t, os.Rename(spare.Cert, s.files.Cert))
	if _, err := c.Info(t.Context()); err == nil || !strings.Contains(hint.Of(err), "the present one cannot be used") {
		t.Errorf("with the certificate alone: %v, hint %q", err, hint.Of(err))
	}
	must.OK(t, os.Rename(spare.Key, s.files.Key))
	if _, err := c.Info(t.Context()); err != nil {
		t.Errorf("with both: %v", err)
	}
}

// What cannot be a client certificate is told before anything is sent; one file may
// hold both the certificate and its key.
func TestClientCertificateFiles(t *testing.T) {
	dir := t.TempDir()
	ca, files := certs.New(t, filepath.Join(dir, "ca.pem")), certs.In(dir)
	ca.Write(t, files, "builder", time.Now().Add(time.Hour))
	both := filepath.Join(dir, "both.pem")
	must.Run(t, "sh", "-c", "cat "+files.Cert+" "+files.Key+" > "+both)
	for _, c := range []struct{ cert, key, says string }{
		{files.Cert, files.Key, ""},
		{both, "", ""},
		{files.Cert, "", files.Cert},
		{"", files.Key, "no certificate"},
		{dir + "/none", files.Key, dir + "/none"},
		{ca.File, files.Key, ca.File},
	} {
		_, err := Open(Options{Address: "https://repo.example.org", Cert: c.cert, Key: c.key})
		if c.says == "" && err != nil || c.says != "" && (KindOf(err) != Usage || !strings.Contains(err.Error(), c.says) || !strings.Contains(hint.Of(err), "--client-cert")) {
			t.Errorf("%+v: %v, hint %q", c, err, hint.Of(err))
		}
	}
}

// A server on a unix socket is reached past any proxy, and an error names the socket.
func TestUnixSocket(t *testing.T) {
	proxyEnv(t, "ALL_PROXY", "http://127.0.0.1:1")
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	must.OK(t, err)
	asked := ""
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path
		answerInfo(w, r)
	}))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	for given, below := range map[string]string{"": "", ":/": "", ":/os": "/os", ":/push/os/": "/push/os"} {
		for _, address := range []string{"unix:" + path, "unix://" + path} {
			c, err := New(address+given, "sesame")
			must.OK(t, err)
			name := "unix:" + path
			if below != "" {
				name += ":" + below
			}
			if info, err := c.Info(t.Context()); err != nil || info.Version != "secure" || c.Address() != name || asked != below+"/api/v1/info" {
				t.Errorf("%s%s: %+v of %s at %s, %v", address, given, info, asked, c.Address(), err)
			}
			c.Close()
		}
	}
	s.Close()
	c, err := New("unix:"+path, "sesame")
	must.OK(t, err)
	if _, err := c.Info(t.Context()); KindOf(err) != Temporary || !strings.Contains(err.Error(), "cannot reach unix:"+path) {
		t.Errorf("%v", err)
	}
	denied := &networkError{"unix:" + path, nil, &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)}}
	if !strings.Contains(denied.Hint(), "group") || KindOf(denied) != Temporary { // root, who runs tests, is denied nothing
		t.Errorf("hint %q of %v", denied.Hint(), denied)
	}
	for _, address := range []string{"unix:", "unix:s", "unix://host/s", "unix:@abstract", "unix:/s/", "unix:/" + strings.Repeat("a", 107), "unix:/s?a"} {
		if _, err := New(address, ""); KindOf(err) != Usage || !strings.Contains(err.Error(), "unix") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
