// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/fake"
)

// What an answer means that is not the server's, before the server has answered
// once and after that, and that it is named as such.
func TestForeignAnswers(t *testing.T) {
	for _, c := range []struct {
		name          string
		status        int
		header        string // Location, or Content-Type with a body
		first, middle Kind
		says, hint    string
	}{
		{"login page elsewhere", 302, "https://login.example/portal", Temporary, Temporary, "redirects GET", "login page"},
		{"login page here", 302, "/portal-login", Temporary, Temporary, "redirects GET", "login page"},
		{"redirect to nowhere", 302, "", Temporary, Temporary, "redirects", ""},
		{"moved", 301, "https://new.example/below/api/v1/info", Permanent, Temporary, "redirects", ""},
		{"unauthorized", 401, "", Refused, Refused, "401", "without a login of its own"},
		{"forbidden", 403, "", Temporary, Temporary, "403 Forbidden", "let GET through"},
		{"not found", 404, "", Permanent, Temporary, "404", "address right"},
		{"method", 405, "", Permanent, Permanent, "does not let this method through", "PATCH"},
		{"proxy login", 407, "", Permanent, Permanent, "407 Proxy", "user:password"},
		{"timeout", 408, "", Temporary, Temporary, "408", ""},
		{"too early", 425, "", Temporary, Temporary, "425", ""},
		{"too many", 429, "", Temporary, Temporary, "429", ""},
		{"method unknown", 501, "", Permanent, Permanent, "does not let this method through", "PATCH"},
		{"bad gateway", 502, "", Temporary, Temporary, "502", "running"},
		{"unavailable", 503, "", Temporary, Temporary, "503", "running"},
		{"gateway timeout", 504, "", Temporary, Temporary, "504", "running"},
		{"captive portal", 511, "", Temporary, Temporary, "511", ""},
		{"a page", 200, "text/html", Temporary, Temporary, "text/html", "login page"},
		{"an XHTML page", 200, "application/xhtml+xml; charset=utf-8", Temporary, Temporary, "xhtml", "login page"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ours atomic.Bool
			_, client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if ours.Load() {
					fake.Reply(w, 200, wire.Info{})
					return
				}
				w.Header().Set("Server", "corp-gate/1.0")
				if strings.Contains(c.header, "/x") || strings.HasPrefix(c.header, "text/") {
					w.Header().Set("Content-Type", c.header)
				} else if c.header != "" {
					w.Header().Set("Location", c.header)
				}
				w.WriteHeader(c.status)
				io.WriteString(w, "<html>")
			})
			_, first := client.Info(t.Context())
			ours.Store(true)
			if _, err := client.Info(t.Context()); err != nil {
				t.Fatal(err)
			}
			ours.Store(false)
			_, middle := client.Info(t.Context())
			if KindOf(first) != c.first || KindOf(middle) != c.middle {
				t.Errorf("kind %d first, %d in the middle, want %d, %d: %v", KindOf(first), KindOf(middle), c.first, c.middle, middle)
			}
			if !strings.Contains(middle.Error(), c.says) || !strings.Contains(middle.Error(), "a proxy (corp-gate/1.0)") && c.name != "redirect to nowhere" {
				t.Errorf("it says %q", middle)
			}
			if !strings.Contains(hint.Of(middle), c.hint) {
				t.Errorf("hint %q", hint.Of(middle))
			}
		})
	}
}

// API gateways answer with documents of the same media type (RFC 9457). They are named
// as a proxy's, with what they say, and with no request of our server's log.
func TestProblemOfAProxy(t *testing.T) {
	for body, says := range map[string]string{
		`{"type":"https://gateway.example/limit","title":"denied","status":403,"detail":"rule 17"}`: "rule 17",
		`{"title":"denied by rule 17"}`:                         "denied by rule 17",
		`{"type":"urn:ostree-upload:"}`:                         "403 Forbidden",
		`{"detail":"` + strings.Repeat("rule 17 ", 1000) + `"}`: "rule 17",
	} {
		_, client := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", wire.ProblemType)
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, body)
		})
		_, err := client.Info(t.Context())
		if err == nil || !strings.Contains(err.Error(), "a proxy or another server") || !strings.Contains(err.Error(), says) || len(err.Error()) > 500 {
			t.Errorf("%s: %v", body, err)
		}
		if RequestOf(err) != "" || client.Reached() || KindOf(err) != Temporary {
			t.Errorf("%s: taken for the server's, request %q", body, RequestOf(err))
		}
	}
}

// No call takes a page for a success, also one that needs no body of the answer.
func TestNoCallTakesAPage(t *testing.T) {
	_, c := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>log in first</html>") })
	calls := map[string]func() error{
		"salvage":   func() error { return c.Salvage(t.Context(), testSession) },
		"terminate": func() error { return c.terminate(t.Context(), testSession, "p") },
		"abort":     func() error { _, err := c.Abort(t.Context(), testSession); return err },
		"refs":      func() error { _, err := c.Refs(t.Context()); return err },
		"finalize":  func() error { _, err := c.Finalize(t.Context(), testSession); return err },
		"negotiate": func() error { _, err := c.Negotiate(t.Context(), testSession, nil); return err },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, ErrBadAnswer) || KindOf(err) != Temporary {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An empty success is no list of what the server lacks: nothing would be sent.
func TestNegotiateWantsText(t *testing.T) {
	_, c := serve(t, func(http.ResponseWriter, *http.Request) {})
	if lacking, err := c.Negotiate(t.Context(), testSession, nil); !errors.Is(err, ErrBadAnswer) {
		t.Errorf("%v, %v", lacking, err)
	}
}

// The server's own refusal of a HEAD, which has no body, is not taken for a proxy's.
func TestHeadOfOursIsOurs(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fake.Refuse(w, wire.Errorf(wire.Forbidden, "not yours"))
	}))
	defer s.Close()
	c, err := New(s.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.bytes(t.Context(), request{method: http.MethodHead, path: "files/a/b"})
	if KindOf(err) != Refused || Code(err) != wire.Forbidden {
		t.Errorf("%v, code %q", err, Code(err))
	}
}

// Plain HTTP to a server of HTTPS says so.
func TestPlainHTTPToHTTPS(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	c, err := New("http://"+s.Listener.Addr().String()+"/below", "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Info(t.Context())
	if want := "--address https://" + s.Listener.Addr().String() + "/below"; KindOf(err) != Permanent || !strings.Contains(hint.Of(err), want) {
		t.Errorf("%v, hint %q", err, hint.Of(err))
	}
}

// A cache that makes a GET of HEAD, or a proxy that refuses it, keeps no upload from
// going on from its byte; one of other bytes is still replaced.
func TestUploadWithoutHead(t *testing.T) {
	heads := map[string]http.HandlerFunc{
		"made a GET": func(w http.ResponseWriter, _ *http.Request) {
			fake.Refuse(w, &wire.Problem{Type: wire.TypePrefix + wire.BadRequest, Status: 405})
		},
		"refused":        fake.AnswerWith(403, "no"),
		"not known":      fake.AnswerWith(501, "no"),
		"without offset": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) },
	}
	for name, head := range heads {
		for _, same := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				f := fake.Start(t)
				want := bigObject()
				f.Fault = fake.Once("PATCH", 3, func(w http.ResponseWriter, _ *http.Request) {
					fake.Refuse(w, wire.Errorf(wire.Forbidden, "enough"))
				})
				if err := uploadObject(t.Context(), newTestUploader(t, f.URL), want); Code(err) != wire.Forbidden {
					t.Fatal(err)
				}
				cut := fake.Once("PATCH", 2, fake.HangUp)
				f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
					if r.Method == "HEAD" {
						head(w, r)
					}
					return r.Method == "HEAD" || cut(w, r)
				}
				had := int64(2 * testChunk)
				if !same {
					want, had = append([]byte("!"), want...), 0
				}
				u := newTestUploader(t, f.URL)
				if err := uploadObject(t.Context(), u, want); err != nil {
					t.Fatal(err)
				}
				if c := u.traffic; !strings.EqualFold(string(f.Sent(t)), string(want)) || c.Skipped.Load() != had || c.Acknowledged.Load() != int64(len(want))-had {
					t.Errorf("%d bytes sent, %d skipped, want %d", c.Acknowledged.Load(), c.Skipped.Load(), had)
				}
				if n := f.Count("HEAD"); n > 1 {
					t.Errorf("%d HEADs", n)
				}
			})
		}
	}
}

// One that sends for the same upload meanwhile is told from a lost answer: two must
// not cut each other for ever.
func TestTakenOver(t *testing.T) {
	for name, theirs := range map[string]func(f *fake.Server, w http.ResponseWriter, r *http.Request){
		"went on": func(f *fake.Server, w http.ResponseWriter, r *http.Request) {
			f.Tus(fake.Quiet{}, r)
			other := r.Clone(r.Context())
			other.Header.Set("Upload-Offset", "524288")
			other.Body = io.NopCloser(strings.NewReader("0123456789"))
			f.Tus(w, other)
		},
		"cut off": func(_ *fake.Server, w http.ResponseWriter, r *http.Request) {
			fake.Refuse(w, wire.Errorf(wire.BadRequest, "ERR_UPLOAD_INTERRUPTED: upload has been interrupted by another request"))
		},
		"salvaged": func(_ *fake.Server, w http.ResponseWriter, r *http.Request) {
			fake.Refuse(w, wire.Errorf(wire.NotFound, "no such upload"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := fake.Start(t)
			f.Fault = fake.Once("PATCH", 2, func(w http.ResponseWriter, r *http.Request) { theirs(f, w, r) })
			b := bigObject()
			err := newTestUploader(t, f.URL).Pack(t.Context(), testSession, "pack-1", bytes.NewReader(b), int64(len(b)))
			if !errors.Is(err, ErrTakenOver) {
				t.Errorf("%v", err)
			}
		})
	}
}
