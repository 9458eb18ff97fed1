// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// A crowd holds connections and hardly asks for anything: so many that
const (
	idlers    = 1000 // send nothing,
	tricklers = 100  // send the header of a request, one byte a second,
	drippers  = 100  // send the body of an upload of the token so, and
	stoppers  = 50   // stop in the middle of a body, and bring no token
)

// dripLength is the length of an upload that never gets there.
const dripLength = 1 << 20

// A member connects, and says what it sends then: at once, and after that byte by byte.
type member func(context.Context) (atOnce, slowly string, err error)

// gather has the crowd come, and returns once everybody is there. It stays until g's
// context ends.
func (a *attack) gather(ctx context.Context, g *errgroup.Group, sessions []string) {
	var there sync.WaitGroup
	come := func(n int, of func(i int) member) {
		for i := range n {
			there.Add(1)
			g.Go(func() error { return a.stay(ctx, of(i), sync.OnceFunc(there.Done)) })
		}
	}
	same := func(m member) func(int) member { return func(int) member { return m } }
	come(idlers, same(idler))
	come(tricklers, same(trickler))
	come(stoppers, same(stopper))
	come(drippers, func(i int) member {
		return a.dripper(sessions[i%len(sessions)], fmt.Sprint("drip", i))
	})
	there.Wait()
}

// stay is a member until ctx ends, over another connection whenever one is closed.
func (a *attack) stay(ctx context.Context, m member, there func()) error {
	defer there()
	for ctx.Err() == nil {
		atOnce, slowly, err := m(ctx)
		if err == nil {
			err = a.connect(ctx, atOnce, slowly, there)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		pause(ctx, time.Second)
	}
	return nil
}

// connect opens a connection and sends, until the server closes it.
func (a *attack) connect(ctx context.Context, atOnce, slowly string, there func()) error {
	conn, err := net.Dial("tcp", strings.TrimPrefix(a.server, "http://"))
	if err != nil {
		return err
	}
	a.count("connections of the crowd")
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	_, err = io.WriteString(conn, atOnce)
	there()
	for err == nil && slowly != "" && ctx.Err() == nil {
		_, err = io.WriteString(conn, slowly[:1])
		slowly = slowly[1:]
		pause(ctx, time.Second)
	}
	if err == nil {
		_, _ = io.Copy(io.Discard, conn) // until it is closed
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func idler(context.Context) (string, string, error) { return "", "", nil }

func trickler(context.Context) (string, string, error) {
	return "", "GET /api/v1/info HTTP/1.1\r\nHost: crowd\r\nX-Long: " + strings.Repeat("x", 1000), nil
}

func stopper(context.Context) (string, string, error) {
	return "POST /api/v1/sessions HTTP/1.1\r\nHost: crowd\r\nContent-Length: 4096\r\n\r\n" + strings.Repeat(" ", 2048), "", nil
}

// dripper sends an upload of a session.
func (a *attack) dripper(session, name string) member {
	return func(ctx context.Context) (string, string, error) {
		if err := unlessThere(a.create(ctx, session, name, dripLength, nil)); err != nil {
			return "", "", err
		}
		path := "/files/" + session + "/" + name
		_, _, header, err := a.exchange(ctx, "HEAD", path, nil, nil)
		if err != nil {
			return "", "", err
		}
		head := fmt.Sprintf("PATCH %s HTTP/1.1\r\nHost: crowd\r\nAuthorization: Bearer %s\r\nTus-Resumable: 1.0.0\r\n"+
			"Content-Type: application/offset+octet-stream\r\nUpload-Offset: %s\r\nContent-Length: %d\r\n\r\n",
			path, hostileToken, header.Get("Upload-Offset"), dripLength/2)
		return head, strings.Repeat("x", 1000), nil
	}
}
