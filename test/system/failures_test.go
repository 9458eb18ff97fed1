// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/test/certs"
	"github.com/lirios/ostree-upload/test/must"
)

// A failure is a way in which a server is not reached, and what every command says of
// it: the same exit code, and a hint that names what helps.
type failure struct {
	name, address string
	exit          int
	hint          string
}

// Whatever keeps a command from the server, push and all of sessions judge it alike:
// 75 if the same command may succeed later, 1 if a person has to change something,
// and the hint says what. None tells an error of Go or an answer as it came.
func TestFailuresToReachServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repo, authority := filepath.Join(dir, "build"), filepath.Join(dir, "ca.pem")
	must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
	must.OSTree(t, "commit", "--repo="+repo, "--branch=os/a", "--tree=dir="+t.TempDir())
	ca := certs.New(t, authority)
	other := certs.New(t, filepath.Join(dir, "other.pem"))
	now := time.Now()
	valid := secureServer(t, ca, "127.0.0.1", now.Add(time.Hour))
	page := func(status int, body string) string {
		return plainServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		})
	}
	plain := page(200, "<html>a login page</html>")
	for _, f := range []failure{
		{"DNS", "https://nowhere.invalid", 75, "is the address right?"},
		{"refused", "http://127.0.0.1:1", 75, "is the server running, and is the address right?"},
		{"unknown authority", secureServer(t, other, "127.0.0.1", now.Add(time.Hour)), 1, "by --ca-file, or in SSL_CERT_FILE"},
		{"another name", secureServer(t, ca, "other.example.org", now.Add(time.Hour)), 1, "name the host in the address as the certificate does"},
		{"expired", secureServer(t, ca, "127.0.0.1", now.Add(-time.Minute)), 1, "have the server's certificate renewed"},
		{"http to https", strings.Replace(valid, "https", "http", 1), 1, "https://"},
		{"https to http", strings.Replace(plain, "http", "https", 1), 1, "is it an http:// address?"},
		{"sub-path", page(404, "not found") + "/sub/path", 1, "is the address right, with the path"},
		{"page", plain, 75, "no proxy or login page is in the way"},
		{"bad gateway", page(502, "bad gateway"), 75, "is the server running"},
		{"silent", silentServer(t), 75, "is the server running"},
	} {
		for _, command := range []string{"push --retry-for 0s --repo " + repo, "sessions list", "sessions show aaaaaaaaaaaaaaaa", "sessions abort aaaaaaaaaaaaaaaa"} {
			t.Run(f.name+"/"+strings.Join(strings.Fields(command)[:1], "")+" "+strings.Fields(command)[1], func(t *testing.T) {
				t.Parallel()
				f.run(t, authority, command)
			})
		}
	}
}

func (f failure) run(t *testing.T, authority, command string) {
	cmd := exec.Command("ostree-upload", append(strings.Fields(command), "--address", f.address, "--token", "secret")...)
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+authority)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // the exit code tells
	said := stderr.String()
	if code := cmd.ProcessState.ExitCode(); code != f.exit || stdout.Len() > 0 {
		t.Errorf("exit %d, want %d; it prints %s%s", code, f.exit, stdout.String(), said)
	}
	_, hint, _ := strings.Cut(said, "\nhint: ")
	if !strings.Contains(hint, f.hint) {
		t.Errorf("want the hint %q, got:\n%s", f.hint, said)
	}
}

func plainServer(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// silentServer closes each connection without an answer, as one that hangs is dropped.
func silentServer(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return "http://" + l.Addr().String()
}

// secureServer serves HTTPS with a certificate for a host, until the test ends, and
// returns its address.
func secureServer(t *testing.T, ca *certs.Authority, host string, until time.Time) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, host, until)}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}
