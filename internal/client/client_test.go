// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/fake"
	"github.com/lirios/ostree-upload/test/link"
)

func TestNewAddress(t *testing.T) {
	for _, c := range []struct{ address, base string }{
		{"http://localhost:8080", "http://localhost:8080"},
		{"https://example.org/", "https://example.org"},
		{"https://example.org/ostree/push/", "https://example.org/ostree/push"},
		{"localhost:8080", ""},
		{"ftp://example.org", ""},
		{"http://", ""},
		{"http://example.org/?token=x", ""},
		{"http://example.org/#x", ""},
		{"https://me:secret@example.org/x/", "https://example.org/x"},
		{"https://me@example.org", "https://example.org"},
		{"http://me:secret@example.org", ""}, // plain
		{"https://me:secret@example.org?x", ""},
		{"https://me:secret@example.org:99999", ""},
		{"https://me:sec/secret@example.org", ""},
		{"https://me:%zzsecret@example.org", ""},
		{"https://me:secret@", ""},
		{"https://m%3Ae:secret@example.org", ""},
		{"https:/me:secret@example.org", ""},
		{"me:secret@example.org", ""},
		{"m//e:secret//secret@example.org", ""},
		{"", ""},
	} {
		client, err := New(c.address, "token")
		switch {
		case c.base == "" && KindOf(err) != Usage:
			t.Errorf("%q: %v, want wrong usage", c.address, err)
		case c.base != "" && (err != nil || client.Address() != c.base):
			t.Errorf("%q: %v", c.address, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error tells the password: %v", c.address, err)
		}
	}
}

func isNetwork(err error) bool {
	var network *networkError
	return errors.As(err, &network)
}

func serve(t *testing.T, h http.HandlerFunc) (*httptest.Server, *Client) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := New(s.URL+"/below", "sesame")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return s, c
}

func TestClientSendsTokenBelowItsAddress(t *testing.T) {
	_, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer sesame" || r.URL.Path != "/below/api/v1/refs" {
			t.Errorf("%s with %q", r.URL, r.Header.Get("Authorization"))
		}
		fake.Reply(w, 200, wire.RefList{Refs: map[string]wire.RefState{"a": {Commit: "c"}}})
	})
	refs, err := c.Refs(t.Context())
	if err != nil || refs["a"].Commit != "c" {
		t.Errorf("%v, %v", refs, err)
	}
}

// A redirect must not carry the token to another place.
func TestClientFollowsNoRedirect(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("followed")
	}))
	defer other.Close()
	_, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+"/new/api/v1/info", http.StatusMovedPermanently)
	})
	_, err := c.Info(t.Context())
	var p *wire.Problem
	if !errors.As(err, &p) || !strings.HasSuffix(p.Hint(), "--address "+other.URL+"/new") {
		t.Errorf("%v, %+v", err, p)
	}
}

func TestTransportRefusesOtherOrigins(t *testing.T) {
	_, c := serve(t, func(http.ResponseWriter, *http.Request) {})
	if res, err := c.http.Get("http://elsewhere.invalid/"); err == nil || !strings.Contains(err.Error(), "not sent") {
		t.Errorf("%v, %v", res, err)
	}
}

func TestClientProblems(t *testing.T) {
	for _, c := range []struct {
		name    string
		answer  http.HandlerFunc
		status  int
		code    string
		message string
	}{
		{"problem", func(w http.ResponseWriter, _ *http.Request) {
			fake.Refuse(w, wire.Errorf(wire.Forbidden, "the token may not list sessions"))
		}, 403, wire.Forbidden, "the token may not list sessions"},
		{"proxy", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) }, 502, "", `"502 Bad Gateway" to GET`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, client := serve(t, c.answer)
			_, err := client.Sessions(t.Context(), wire.Open)
			var p *wire.Problem
			if !errors.As(err, &p) || p.Status != c.status || p.Code() != c.code || !strings.Contains(err.Error(), c.message) {
				t.Errorf("%v, %+v", err, p)
			}
		})
	}
}

func TestClientNamesAddressThatNobodyListensAt(t *testing.T) {
	s, c := serve(t, nil)
	s.Close()
	_, err := c.Info(t.Context())
	if !isNetwork(err) || KindOf(err) != Temporary || !strings.Contains(err.Error(), s.URL) {
		t.Errorf("%v", err)
	}
}

func TestClientRefusesForeignAnswers(t *testing.T) {
	_, c := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>log in first</html>") })
	if _, err := c.Info(t.Context()); err == nil || isNetwork(err) {
		t.Errorf("info: %v", err)
	}
	if _, err := c.Negotiate(t.Context(), "x", nil); err == nil {
		t.Error("negotiate took HTML for names")
	}
}

// Without a limit a server could fill our memory.
func TestClientBoundsAnswers(t *testing.T) {
	_, c := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, ostree.MaxCommitMeta+1)) })
	if _, err := c.CommitMeta(t.Context(), ostree.Checksum{}); err == nil {
		t.Error("took more than a commitmeta may have")
	}
}

func TestNegotiateBothWays(t *testing.T) {
	f := fake.Start(t)
	f.Session = &wire.Session{ID: "aaaabbbbccccdddd", State: wire.Open}
	c, err := New(f.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	names := []ostree.Name{{Checksum: ostree.Checksum{1}, Type: ostree.File}, {Checksum: ostree.Checksum{2}, Type: ostree.DirTree}}
	f.Set[names[0]] = true
	lacking, err := c.Negotiate(t.Context(), f.Session.ID, names)
	if err != nil || len(lacking) != 1 || lacking[0] != names[1] {
		t.Errorf("%v, %v", lacking, err)
	}
}

// A server that names an object it was not asked about does not get it.
func TestNegotiateOnlyWhatWasAsked(t *testing.T) {
	other := ostree.Name{Checksum: ostree.Checksum{3}, Type: ostree.File}
	_, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Write(wire.FormatNames([]ostree.Name{other}))
	})
	asked := []ostree.Name{{Checksum: ostree.Checksum{1}, Type: ostree.File}}
	lacking, err := c.Negotiate(t.Context(), "aaaabbbbccccdddd", asked)
	if !errors.Is(err, ErrBadAnswer) || !strings.Contains(err.Error(), other.String()) {
		t.Errorf("%v, %v", lacking, err)
	}
}

func TestAbortWithoutBody(t *testing.T) {
	_, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		fake.Reply(w, 200, wire.Session{ID: "aaaabbbbccccdddd", State: wire.Aborted})
	})
	s, err := c.Abort(t.Context(), "x")
	if err != nil || s.State != wire.Aborted {
		t.Errorf("%+v, %v", s, err)
	}
}

// A link that swallows everything must not hang for ever.
func TestStalledRequestEnds(t *testing.T) {
	release := make(chan struct{})
	_, c := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	ctx := WithStall(t.Context(), 60*time.Millisecond)
	_, err := c.Info(ctx)
	if !errors.Is(err, errStalled) {
		t.Errorf("got %v", err)
	}
	if KindOf(err) != Temporary {
		t.Error("a stall must be tried again")
	}
}

// The answer's body may stall as well as its header.
func TestStalledBodyEnds(t *testing.T) {
	release := make(chan struct{})
	_, c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "{")
		w.(http.Flusher).Flush()
		<-release
	})
	defer close(release)
	_, err := c.Info(WithStall(t.Context(), 60*time.Millisecond))
	if !errors.Is(err, errStalled) || !isNetwork(err) {
		t.Errorf("got %v", err)
	}
}

// A link that swallows everything kills idle connections too: once one request has
// noticed, the next ones take new connections.
func TestStallLeavesIdleConnections(t *testing.T) {
	const conns = 4
	var together sync.WaitGroup
	together.Add(conns)
	s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/refs") {
			together.Done()
			together.Wait() // so that each has a connection
		}
		fake.Reply(w, 200, wire.Info{})
	})
	l, err := link.Listen(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c, err := New("http://"+l.Address(), "sesame")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	var asked sync.WaitGroup
	for range conns {
		asked.Go(func() {
			if _, err := c.Refs(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	asked.Wait()
	ctx := WithStall(t.Context(), 300*time.Millisecond)
	l.BlackHole(true)
	if _, err := c.Info(ctx); !errors.Is(err, errStalled) {
		t.Errorf("in the hole: %v", err)
	}
	l.BlackHole(false)
	if _, err := c.Info(t.Context()); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// An answer that comes byte by byte, never silent for long, is not waited for.
func TestDrippingAnswerEnds(t *testing.T) {
	_, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			io.WriteString(w, " ")
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond) // the drip itself
		}
	})
	_, err := c.Info(WithStall(t.Context(), 120*time.Millisecond))
	if !errors.Is(err, errStalled) || KindOf(err) != Temporary {
		t.Errorf("got %v", err)
	}
}

func TestWaitIsAskedFor(t *testing.T) {
	_, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fake.Reply(w, 200, wire.Session{ID: "aaaabbbbccccdddd", Detail: r.FormValue("wait")})
	})
	for wait, want := range map[time.Duration]string{0: "", 30 * time.Second: "30s", time.Second: "1s"} {
		s, err := c.Session(t.Context(), "x", wait)
		if err != nil || s.Detail != want {
			t.Error(fmt.Sprint(wait), s.Detail, err)
		}
	}
}
