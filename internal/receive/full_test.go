// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// someNames name objects that there are not.
func someNames(from, n int) (names []ostree.Name) {
	for i := range n {
		c, err := ostree.ParseChecksum(fmt.Sprintf("%064x", from+i))
		if err != nil {
			panic(err)
		}
		names = append(names, ostree.Name{Checksum: c, Type: ostree.File})
	}
	return names
}

// A session names so many objects and no more, and so do all of a token together;
// names that are known are no more. Other tokens are not touched by that.
func TestObjectsOfASession(t *testing.T) {
	s := ts.Start(t, "archive")
	s.Change(func(c *config.Config) { c.Limits.MaxObjects = 10 })
	c := s.Client(s.Token)
	ids := []string{c.Open(many("x", 1)...).ID, c.Open(many("y", 1)...).ID, c.Open(many("z", 1)...).ID}
	refused := func(id string, status int, code string, names []ostree.Name) {
		t.Helper()
		a := c.Do("POST", "/api/v1/sessions/"+id+"/objects", wire.FormatNames(names))
		if a.Status != status {
			t.Fatalf("status %d, want %d: %s", a.Status, status, a.Body)
		}
		if p := a.Problem(t); p.Code() != code || p.HintIs == "" || !strings.Contains(p.Error(), "max-objects") {
			t.Errorf("%s: %v, hint %q", p.Code(), p, p.HintIs)
		}
	}
	refused(ids[0], 413, wire.TooLarge, someNames(0, 11))
	c.Negotiate(ids[0], someNames(0, 8)...)
	refused(ids[0], 413, wire.TooLarge, someNames(8, 3))
	c.Negotiate(ids[0], someNames(0, 10)...)
	c.Negotiate(ids[1], someNames(0, 9)...)
	refused(ids[2], 429, wire.Quota, someNames(100, 2))
	c.Negotiate(ids[2], someNames(100, 1)...)
	s.Client(s.Other).Negotiate(s.Client(s.Other).Open(many("other", 1)...).ID, someNames(0, 10)...)
	c.Want(200, "DELETE", "/api/v1/sessions/"+ids[1], nil)
	c.Negotiate(ids[2], someNames(100, 10)...)
	s.Change(func(c *config.Config) { c.Limits.MaxObjects = 0 })
	c.Negotiate(ids[2], someNames(100, 100)...)
}

// So many uploads of a session may be under way at once.
func TestUploadsUnderWay(t *testing.T) {
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	session := c.Open(many("x", 1)...)
	create := func(name string) ts.Answer { return c.Create(1, ts.Metadata("session", session.ID, "pack", name)) }
	for i := range 256 {
		if a := create(fmt.Sprint("p", i)); a.Status != 201 {
			t.Fatalf("upload %d: %d %s", i, a.Status, a.Body)
		}
	}
	if a := create("more"); a.Status != 429 || a.Problem(t).Code() != wire.Quota || a.Problem(t).HintIs == "" {
		t.Errorf("one more: %d %s", a.Status, a.Body)
	}
	c.Want(204, "DELETE", "/files/"+session.ID+"/p0", nil, "Tus-Resumable", "1.0.0")
	if a := create("more"); a.Status != 201 {
		t.Errorf("once one has ended: %d %s", a.Status, a.Body)
	}
}

// A header that is too long is not read, whoever sends it.
func TestLongHeader(t *testing.T) {
	s := ts.Start(t, "archive")
	for _, token := range []string{"", s.Token} {
		c := s.Client(token)
		c.Want(431, "GET", "/api/v1/info", nil, "X-Long", strings.Repeat("x", 80<<10))
	}
	s.Client(s.Token).Want(200, "GET", "/api/v1/info", nil, "X-Long", strings.Repeat("x", 50<<10))
}

// Where a token has as many requests under way as it may, one more is told to come again,
// and another token's is answered.
func TestManyRequests(t *testing.T) {
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	id := c.Open(many("x", 1)...).ID
	_, err := s.Journal.Move(id, wire.Verifying, nil) // nobody was told, so it stays so
	must.OK(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	for range 512 {
		asking.Go(func() {
			for ctx.Err() == nil { // a question of the test may have taken the place
				r, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/api/v1/sessions/"+id+"?wait=60s", nil)
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Authorization", "Bearer "+s.Token)
				if res, err := http.DefaultTransport.RoundTrip(r); err == nil {
					res.Body.Close()
				}
			}
		})
	}
	var a ts.Answer
	must.Wait(t, "a request is refused", func() bool {
		a = c.Do("GET", "/api/v1/info", nil)
		return a.Status != 200
	})
	if a.Status != 429 || a.Header.Get("Retry-After") == "" || a.Problem(t).Code() != wire.Quota || a.Problem(t).HintIs == "" {
		t.Errorf("%d %v %s", a.Status, a.Header, a.Body)
	}
	s.Client(s.Other).Want(200, "GET", "/api/v1/info", nil)
	cancel()
	asking.Wait()
	must.Wait(t, "the token is answered again", func() bool { return c.Do("GET", "/api/v1/info", nil).Status == 200 })
}
