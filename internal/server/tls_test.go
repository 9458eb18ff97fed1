// SPDX-License-Identifier: AGPL-3.0-or-later

package server_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/server"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/certs"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// A secureHost is a server of HTTPS, with a token.
type secureHost struct {
	t       *testing.T
	dir     string
	ca      *certs.Authority
	token   string
	address string
	log     *eventLog
	stop    func()
}

// newSecureHost starts one; with clients it wants certificates of the authority there.
func newSecureHost(t *testing.T, clients string) *secureHost {
	t.Helper()
	h := &secureHost{t: t, dir: t.TempDir(), log: newEventLog()}
	h.ca = certs.New(t, filepath.Join(h.dir, "ca.pem"))
	files := certs.In(h.dir)
	h.ca.Write(t, files, "127.0.0.1", time.Now().Add(time.Hour))
	plain, made := token.Generate(token.Options{Name: "ci"})
	settings := config.Default()
	settings.Tokens, settings.Limits.MinFreeSpace = []token.Token{made}, 0
	h.token = plain
	h.address, h.stop = h.log.serveAs(t, server.Options{
		Repo: filepath.Join(h.dir, "prod"), Settings: func() *config.Config { return settings },
		TLS: config.TLS{Cert: files.Cert, Key: files.Key, ClientCA: clients},
	})
	return h
}

// dialing trusts the server, and shows a certificate if there is one.
func (h *secureHost) dialing(own ...tls.Certificate) *tls.Config {
	h.t.Helper()
	text, err := os.ReadFile(h.ca.File)
	must.OK(h.t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	c := &tls.Config{RootCAs: roots}
	if len(own) > 0 { // else Go would show none of an authority that the server does not name
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own[0], nil }
	}
	return c
}

// over are connections of HTTP/2.
func (h *secureHost) over(own ...tls.Certificate) *http.Transport {
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: h.dialing(own...)}
	h.t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func (h *secureHost) client(own ...tls.Certificate) *ts.Client {
	return ts.NewClient(h.t, h.address, h.token).Over(h.over(own...))
}

// Where the server wants client certificates, nobody gets further without one that its
// authority has issued and that is valid, not even to /healthz, and a token is needed
// besides. The log says what was wrong. A new authority holds from the next connection
// on.
func TestClientCertificates(t *testing.T) {
	clients := certs.New(t, filepath.Join(t.TempDir(), "clients.pem"))
	other := certs.New(t, filepath.Join(t.TempDir(), "other.pem"))
	h := newSecureHost(t, clients.File)
	hour := time.Now().Add(time.Hour)
	good := clients.Issue(t, "builder", hour)
	h.client(good).Want(200, "GET", "/healthz", nil)
	h.client(good).Want(200, "GET", "/api/v1/info", nil)
	ts.NewClient(t, h.address, "").Over(h.over(good)).Want(401, "GET", "/api/v1/info", nil)

	refused := func(says string, own ...tls.Certificate) {
		t.Helper()
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			tr := h.over(own...)
			tr.TLSClientConfig.MaxVersion = version
			if a, err := ts.NewClient(t, h.address, h.token).Over(tr).Try("GET", "/healthz", nil); err == nil {
				t.Errorf("%s: answered with %d", says, a.Status)
			}
		}
	}
	refused("none")
	refused("expired", clients.Issue(t, "builder", time.Now().Add(-time.Minute)))
	theirs := other.Issue(t, "builder", hour)
	refused("unknown", theirs)
	new, err := os.ReadFile(other.File)
	must.OK(t, err)
	must.OK(t, os.WriteFile(clients.File, new, 0o600))
	h.client(theirs).Want(200, "GET", "/healthz", nil)
	refused("no longer known", good)
	h.log.waitAll("client certificate refused", 8) // a client may know it before
	h.stop()
	said := map[string]int{} // a server may write one down after the client's next
	for _, e := range h.log.all("client certificate refused") {
		if e["remote"] != "127.0.0.1" {
			t.Errorf("from %v", e["remote"])
		}
		for _, why := range []string{"didn't provide a certificate", "expired", "unknown authority"} {
			if strings.Contains(fmt.Sprint(e["err"]), why) {
				said[why]++
			}
		}
	}
	if want := map[string]int{"didn't provide a certificate": 2, "expired": 2, "unknown authority": 4}; !maps.Equal(said, want) {
		t.Fatalf("the log says %v: %v", said, h.log.all("client certificate refused"))
	}
}

// Others than Go see a server of TLS 1.2 and 1.3, and no older one, that speaks HTTP/2.
func TestOthersSpeakTLS(t *testing.T) {
	h := newSecureHost(t, "")
	host := strings.TrimPrefix(h.address, "https://")
	for flag, works := range map[string]bool{"-tls1_1": false, "-tls1_2": true, "-tls1_3": true} {
		cmd := exec.Command("openssl", "s_client", "-connect", host, "-CAfile", h.ca.File, "-verify_return_error", "-alpn", "h2", "-cipher", "DEFAULT:@SECLEVEL=0", flag)
		out, err := cmd.CombinedOutput()
		if (err == nil) != works || works && !strings.Contains(string(out), "ALPN protocol: h2") {
			t.Errorf("%s: %v\n%s", flag, err, out)
		}
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl")
	}
	if out := must.Run(t, "curl", "-sS", "--http2", "--cacert", h.ca.File, "-w", " %{http_version}", h.address+"/healthz"); out != "ok\n 2" {
		t.Errorf("curl gets %q", out)
	}
}

// A push over HTTP/2 with bodies far beyond its windows, all at the same time over one
// connection, each broken off in the middle and going on where it stopped.
func TestPushOverHTTP2(t *testing.T) {
	h := newSecureHost(t, "")
	c := h.client()
	build, commit := largeFiles(t, h.dir, 4, 12<<20)
	s := c.Open(wire.Ref{Ref: "main", New: commit.String()})
	large := map[string][]byte{}
	for _, o := range c.Negotiate(s.ID, ts.Objects(t, build, commit)...) {
		b := ts.Object(t, build, o)
		if len(b) < 1<<20 {
			c.Upload(s.ID, o.String(), b)
			continue
		}
		large[o.String()] = b
		if a := c.Create(len(b), ts.Metadata("session", s.ID, "object", o.String())); a.Status != 201 {
			t.Fatalf("create: %d %s", a.Status, a.Body)
		}
	}
	breakOff, path := errors.New("broken off"), "/files/"+s.ID+"/"
	sendAll := func(body func(name string) io.Reader, from map[string]int) error {
		var sending errgroup.Group
		for name := range large {
			sending.Go(func() error {
				a, err := c.TryReader("PATCH", path+name, body(name), "Tus-Resumable", "1.0.0",
					"Content-Type", "application/offset+octet-stream", "Upload-Offset", fmt.Sprint(from[name]))
				if err == nil && a.Status != http.StatusNoContent {
					err = fmt.Errorf("status %d: %s", a.Status, a.Body)
				}
				return err
			})
		}
		return sending.Wait()
	}
	err := sendAll(func(name string) io.Reader {
		return io.MultiReader(bytes.NewReader(large[name][:6<<20]), iotest.ErrReader(breakOff))
	}, nil)
	if !errors.Is(err, breakOff) {
		t.Fatalf("it was not broken off: %v", err)
	}
	from := map[string]int{}
	for name := range large {
		if from[name] = c.Offset(s.ID, name); from[name] == 0 {
			t.Errorf("nothing is left of %s", name)
		}
	}
	must.OK(t, sendAll(func(name string) io.Reader { return bytes.NewReader(large[name][from[name]:]) }, from))
	if got := c.Finalize(s.ID); got.State != wire.Published {
		t.Errorf("%+v", got)
	}
}

// largeFiles makes a repository with one commit of n files of random bytes.
func largeFiles(t *testing.T, dir string, n, size int) (build string, commit ostree.Checksum) {
	t.Helper()
	build, tree := filepath.Join(dir, "build"), filepath.Join(dir, "tree")
	must.OK(t, os.Mkdir(tree, 0o755))
	random := rand.NewChaCha8([32]byte{1})
	for i := range n {
		b := make([]byte, size)
		_, err := random.Read(b)
		must.OK(t, err)
		must.OK(t, os.WriteFile(filepath.Join(tree, fmt.Sprint(i)), b, 0o644))
	}
	must.OSTree(t, "init", "--repo="+build, "--mode=archive")
	commit, err := ostree.ParseChecksum(must.OSTree(t, "commit", "--repo="+build, "--branch=main", "--no-bindings", "--tree=dir="+tree))
	must.OK(t, err)
	return build, commit
}

// frames is a connection of HTTP/2 whose frames the test writes itself.
type frames struct {
	*http2.Framer
	conn   *tls.Conn
	header bytes.Buffer
	encode *hpack.Encoder
	next   uint32 // stream
}

func (h *secureHost) frames() *frames {
	h.t.Helper()
	to := h.dialing()
	to.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(h.address, "https://"), to)
	must.OK(h.t, err)
	h.t.Cleanup(func() { conn.Close() })
	must.OK(h.t, conn.SetDeadline(time.Now().Add(must.Patience)))
	_, err = io.WriteString(conn, http2.ClientPreface)
	must.OK(h.t, err)
	f := &frames{Framer: http2.NewFramer(conn, conn), conn: conn, next: 1}
	f.encode = hpack.NewEncoder(&f.header)
	must.OK(h.t, f.WriteSettings())
	return f
}

// ask begins a request without a body.
func (f *frames) ask(h *secureHost, path string) (stream uint32, err error) {
	f.header.Reset()
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "h"}, {":path", path}, {"authorization", "Bearer " + h.token}} {
		if err := f.encode.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			return 0, err
		}
	}
	stream, f.next = f.next, f.next+2
	return stream, f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.header.Bytes(), EndStream: true, EndHeaders: true})
}

// One connection has a bounded number of requests at a time: what goes beyond it is
// refused, and the others go on.
func TestStreamsAreBounded(t *testing.T) {
	h := newSecureHost(t, "")
	id := h.client().Open(wire.Ref{Ref: "main", New: strings.Repeat("a", 64)}).ID
	f := h.frames()
	const most = 100
	for range most + 1 {
		_, err := f.ask(h, "/api/v1/sessions/"+id+"?wait=60s")
		must.OK(t, err)
	}
	announced := uint32(0)
	for {
		frame, err := f.ReadFrame()
		must.OK(t, err)
		if settings, ok := frame.(*http2.SettingsFrame); ok && !settings.IsAck() {
			announced, _ = settings.Value(http2.SettingMaxConcurrentStreams)
		}
		reset, ok := frame.(*http2.RSTStreamFrame)
		if !ok {
			continue
		}
		if announced != most || reset.StreamID != 2*most+1 || reset.ErrCode != http2.ErrCodeRefusedStream {
			t.Errorf("%d streams are announced; stream %d is reset by %v", announced, reset.StreamID, reset.ErrCode)
		}
		break
	}
	h.client().Want(200, "GET", "/healthz", nil)
}

// Streams that are begun and reset at once, by the ten thousand, end the connection or
// come to nothing: others are answered, and nothing is left of them.
func TestRapidResets(t *testing.T) {
	h := newSecureHost(t, "")
	before := runtime.NumGoroutine()
	f := h.frames()
	go func() {
		_, _ = io.Copy(io.Discard, f.conn) // until the server closes it, or the test
	}()
	for range 20_000 {
		stream, err := f.ask(h, "/api/v1/sessions")
		if err == nil {
			err = f.WriteRSTStream(stream, http2.ErrCodeCancel)
		}
		if err != nil {
			break // the server has closed it
		}
	}
	h.client().Want(200, "GET", "/healthz", nil)
	f.conn.Close()
	must.Wait(t, "nothing is left of the streams", func() bool { return runtime.NumGoroutine() <= before+20 })
}
