// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// Two servers of one bucket that have one state folder are told apart from two of one
// repository on the disk, since of the others there may be many.
func TestOneStateOfTwo(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	second := f.receive(f.receivers[0], "--wait-lock", "0")
	e := site.Finish(t, second).Must(t, 1)
	for _, words := range []string{"another ostree-upload serves s3://repo/os with the state folder state", "each server of a bucket needs a state folder of its own"} {
		if !strings.Contains(e.Stderr, words) {
			t.Errorf("it does not say %q:\n%s", words, e.Stderr)
		}
	}
}

// A push whose server is gone, and for which another one answers that does not know its
// session, says what to do.
func TestAnotherServerAnswers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, []string{"ci"})
	b := site.Small(t, "os/x", "another")
	moving, err := net.Listen("unix", filepath.Join(f.receivers[0].dir, "balancer"))
	must.OK(t, err)
	var to atomic.Pointer[member]
	to.Store(f.receivers[0])
	go http.Serve(moving, &httputil.ReverseProxy{ //nolint:errcheck // it ends with the listener
		Rewrite: func(r *httputil.ProxyRequest) {
			if r.In.Method == http.MethodPatch || r.In.Method == http.MethodHead {
				to.Store(f.receivers[1])
			}
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "server"
		},
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", to.Load().socket())
		}},
	})
	t.Cleanup(func() { moving.Close() })
	f.url = "unix:" + moving.Addr().String()
	e := site.Finish(t, f.command("ci", "push", "--repo", b.Repo, b.Ref)).Must(t, 1)
	if !strings.Contains(e.Stderr, "does not know session ") || !strings.Contains(e.Stderr, "hint: push again, which opens another session: behind a load balancer") {
		t.Errorf("it says\n%s", e.Stderr)
	}
	if strings.Contains(e.Stderr, "another push") {
		t.Errorf("it speaks of a push that there is not\n%s", e.Stderr)
	}
	site.Finish(t, f.command("ci", "push", "--repo", b.Repo, b.Ref)).Must(t, 0)
}
