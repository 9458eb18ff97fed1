// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
)

// A loop is done again and again, until ctx ends.
type loop struct {
	kind string // for -attack
	do   func(ctx context.Context) error
}

var attackKinds = []string{"publish", "bomb", "list", "negotiate", "send", "junk", "churn"}

// What the loops that only ask, or send what is of no use, do at once.
const (
	lists        = 4       // list sessions
	negotiations = 4       // ask for objects, of which some
	asked        = 16_000  // each, and half of the loops without a session
	churns       = 2       // terminate uploads and create them again
	senders      = 2       // send uploads, of so many bytes,
	sent         = 8 << 20 // which are then terminated
	junks        = 2       // send packs of objects that do not match their names,
	junkObjects  = 20_000  // so many each
)

// asking returns the loops that need nothing but a session each.
func (a *attack) asking(ctx context.Context) (loops []loop, err error) {
	session, err := a.open(ctx, 1, fmt.Sprintf("%064x", 5), "")
	if err != nil {
		return nil, err
	}
	for range lists {
		loops = append(loops, loop{"list", a.list})
	}
	for i := range negotiations {
		path := []string{"/api/v1/objects", "/api/v1/sessions/" + session + "/objects"}[i%2]
		names := namesFrom(i * asked)
		loops = append(loops, loop{"negotiate", func(ctx context.Context) error {
			_, err := a.ask(ctx, "POST", path, names)
			a.count("lists of 16,000 names")
			return err
		}})
	}
	for i := range senders {
		loops = append(loops, loop{"send", func(ctx context.Context) error { return a.send(ctx, session, fmt.Sprint("send", i)) }})
	}
	junk, err := a.junk(ctx, session)
	return append(loops, junk...), err
}

// namesFrom names some objects that there are not.
func namesFrom(first int) []byte {
	var b bytes.Buffer
	for i := range asked {
		fmt.Fprintf(&b, "%064x.filez\n", 1<<40+first+i)
	}
	return b.Bytes()
}

// list lists sessions, as many as may be in one answer.
func (a *attack) list(ctx context.Context) error {
	_, err := a.ask(ctx, "GET", fmt.Sprint("/api/v1/sessions?limit=", wire.MaxPage), nil)
	a.count("lists of sessions")
	return err
}

// churn ends an upload and creates it again.
func (a *attack) churn(ctx context.Context, id string) error {
	if _, _, err := a.do(ctx, "DELETE", "/files/"+id+"/p0", nil, nil); err != nil {
		return err
	}
	a.count("uploads created again")
	return unlessRefused(a.create(ctx, id, "p0", 1, nil))
}

// send sends all but the last byte of an upload, and terminates it.
func (a *attack) send(ctx context.Context, session, name string) error {
	if err := unlessRefused(a.create(ctx, session, name, sent+1, make([]byte, sent))); err != nil {
		return err
	}
	a.add("MiB sent", sent>>20)
	_, _, err := a.do(ctx, "DELETE", "/files/"+session+"/"+name, nil, nil)
	return err
}

// junk returns loops that send packs of small objects with wrong names.
func (a *attack) junk(ctx context.Context, session string) (loops []loop, err error) {
	pack := []byte(wire.PackMagic)
	content := make([]byte, 200)
	for i := range content {
		content[i] = byte(rand.IntN(256))
	}
	var names bytes.Buffer
	for i := range junkObjects {
		n, err := ostree.ParseName(fmt.Sprintf("%064x.dirmeta", i))
		if err != nil {
			return nil, err
		}
		fmt.Fprintln(&names, n)
		pack = append(wire.AppendFrameHeader(pack, n, int64(len(content))), content...)
	}
	if _, err := a.ask(ctx, "POST", "/api/v1/sessions/"+session+"/objects", names.Bytes()); err != nil {
		return nil, err
	}
	for range junks {
		loops = append(loops, loop{"junk", func(ctx context.Context) error {
			a.count("packs of bad objects")
			return unlessRefused(a.create(ctx, session, a.name("junk"), int64(len(pack)), pack))
		}})
	}
	return loops, nil
}
