// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/objects"
)

// attackCommand is the bench's own argument that makes it the attacker.
const attackCommand = "attack"

// hostileToken is known to each server of the bench, for refs below hostile/.
const hostileToken = "a-token-that-does-its-worst"

// What the attack does, all at once.
const (
	chainLength   = 3000     // commits, and
	chainRefs     = 300      // refs on them, in each of
	chainSessions = 3        // sessions that are finalized again and again
	bombs         = 6        // uploads at once that inflate to
	bombMiB       = 4 << 10  // so many MiB each
	idleUploads   = 3600     // uploads of which no byte comes, which is nearly all, in sessions with
	uploadsEach   = 240      // so many each
	fatRefs       = 17000    // refs of a session that only takes room
	claimMost     = 4 << 30  // bytes of the largest upload that only takes room, and
	claimLeast    = 64 << 20 // of the smallest
	roomLeft      = 1 << 30  // that are left for what is really sent
)

// An attack is a token that does its worst.
type attack struct {
	server string
	client *http.Client
	salt   atomic.Int64 // what makes names differ

	mu  sync.Mutex
	did map[string]int64
}

// runAttack attacks a server until ctx ends, by loops of these kinds: it says so on
// stdout once it is at full strength, and at the end how often it did what.
func runAttack(ctx context.Context, server, kinds string, out io.Writer) error {
	a := &attack{server: "http://" + server, did: make(map[string]int64),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}}
	g, working := errgroup.WithContext(ctx)
	loops, err := a.prepare(ctx, func(sessions []string) { a.gather(working, g, sessions) })
	if err != nil {
		return errors.Join(err, g.Wait())
	}
	for _, loop := range loops {
		if !slices.Contains(strings.Split(kinds, ","), loop.kind) {
			continue
		}
		g.Go(func() error {
			for working.Err() == nil {
				err := loop.do(working)
				if working.Err() != nil {
					break
				}
				if cut := new(url.Error); errors.As(err, &cut) {
					a.count("requests cut off")
					pause(working, time.Second)
				} else if err != nil {
					return err
				}
			}
			return nil
		})
	}
	fmt.Fprintln(out, "ready")
	<-ctx.Done()
	if err := g.Wait(); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(a.did)
}

// prepare takes all that the token may have, has the crowd come once there are sessions
// for it, and returns what is then to be done again and again.
func (a *attack) prepare(ctx context.Context, gather func(sessions []string)) (loops []loop, err error) {
	chain, err := a.pushChain(ctx)
	if err != nil {
		return nil, err
	}
	// Room for the sessions of the chain is kept while others take all of it.
	var kept []string
	for range chainSessions {
		id, err := a.open(ctx, chainRefs, chain[0], "")
		if err != nil {
			return nil, err
		}
		kept = append(kept, id)
		loops = append(loops, loop{"publish", func(ctx context.Context) error { return a.publishChain(ctx, chain) }})
	}
	thrown, err := a.throwing(ctx)
	if err != nil {
		return nil, err
	}
	loops = append(loops, thrown...)
	asking, err := a.asking(ctx)
	if err != nil {
		return nil, err
	}
	loops = append(loops, asking...)
	idle, err := a.openUploads(ctx)
	if err != nil {
		return nil, err
	}
	for i := range churns {
		loops = append(loops, loop{"churn", func(ctx context.Context) error { return a.churn(ctx, idle[i]) }})
	}
	gather(idle)
	if err := errors.Join(a.claimBytes(ctx), a.openSessions(ctx)); err != nil {
		return nil, err
	}
	for _, id := range kept {
		if _, err := a.ask(ctx, "DELETE", "/api/v1/sessions/"+id, nil); err != nil {
			return nil, err
		}
	}
	return loops, nil
}

// pushChain publishes a chain of commits and returns their checksums, oldest first.
func (a *attack) pushChain(ctx context.Context) ([]string, error) {
	tree, meta, file := objects.SoundTree(), objects.SoundDirMeta(), objects.SoundFile("sound").Object()
	empty := objects.Metadata("dirtree", objects.Tree(nil, nil))
	all := []objects.Object{tree, meta, file, empty}
	var sums []string
	var parent []byte
	for i := range chainLength {
		c := objects.SoundCommit()
		c.Subject, c.Parent = strconv.Itoa(i), parent
		made := objects.Metadata("commit", c.Bytes())
		parent = made.Sum[:]
		all = append(all, made)
		sums = append(sums, hex.EncodeToString(parent))
	}
	id, err := a.open(ctx, 1, sums[len(sums)-1], "")
	if err != nil {
		return nil, err
	}
	pack := []byte(wire.PackMagic)
	var names bytes.Buffer
	for _, o := range all {
		n, err := ostree.ParseName(o.Name())
		if err != nil {
			return nil, err
		}
		fmt.Fprintln(&names, n)
		pack = append(wire.AppendFrameHeader(pack, n, int64(len(o.Bytes))), o.Bytes...)
	}
	if _, err := a.ask(ctx, "POST", "/api/v1/sessions/"+id+"/objects", names.Bytes()); err != nil {
		return nil, err
	}
	if err := a.create(ctx, id, "chain", int64(len(pack)), pack); err != nil {
		return nil, err
	}
	return sums, a.publish(ctx, id)
}

// publishChain publishes many refs, each at another commit of the chain, and then
// moves them all to its newest.
func (a *attack) publishChain(ctx context.Context, chain []string) error {
	prefix := a.name("hostile/chain-")
	var early, late []wire.Ref
	for i := range chainRefs {
		ref, old := fmt.Sprintf("%s/%d", prefix, i), chain[i*len(chain)/chainRefs]
		early = append(early, wire.Ref{Ref: ref, New: old})
		late = append(late, wire.Ref{Ref: ref, Old: old, New: chain[len(chain)-1]})
	}
	for _, refs := range [][]wire.Ref{early, late} {
		id, err := a.openRefs(ctx, refs)
		if err == nil {
			err = a.publish(ctx, id)
		}
		if err != nil {
			return err
		}
		a.count("publishes of 300 refs")
	}
	return nil
}

// publish finalizes a session and waits for it.
func (a *attack) publish(ctx context.Context, id string) error {
	path := "/api/v1/sessions/" + id
	if _, err := a.ask(ctx, "POST", path+"/finalize", nil); err != nil {
		return err
	}
	for {
		b, err := a.ask(ctx, "GET", path+"?wait=10s", nil)
		if err != nil {
			return err
		}
		var s wire.Session
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		switch s.State {
		case wire.Published:
			return nil
		case wire.Verifying, wire.Publishing:
		default:
			return fmt.Errorf("session %s is %s: %s: %s", id, s.State, s.Error, s.Detail)
		}
	}
}

// throwing returns loops that send small uploads which inflate to gigabytes and then
// are something else than their name says.
func (a *attack) throwing(ctx context.Context) (loops []loop, err error) {
	f := objects.SoundFile("")
	f.Size, f.Deflated = bombMiB<<20, objects.DeflateZeros(bombMiB)
	bomb := f.Object().Bytes
	id, err := a.open(ctx, 1, fmt.Sprintf("%064x", 1), "")
	if err != nil {
		return nil, err
	}
	for i := range bombs {
		name := fmt.Sprintf("%064x.filez", i+1)
		if _, err := a.ask(ctx, "POST", "/api/v1/sessions/"+id+"/objects", []byte(name+"\n")); err != nil {
			return nil, err
		}
		loops = append(loops, loop{"bomb", func(ctx context.Context) error { return a.throw(ctx, id, name, bomb) }})
	}
	return loops, nil
}

// throw sends a bomb and waits until it is refused, for then it can be sent again.
func (a *attack) throw(ctx context.Context, id, name string, bomb []byte) error {
	if err := unlessRefused(a.create(ctx, id, name, int64(len(bomb)), bomb)); err != nil {
		return err
	}
	for {
		status, _, err := a.do(ctx, "HEAD", "/files/"+id+"/"+name, nil, nil)
		if err != nil {
			return err
		}
		if status == http.StatusNotFound {
			a.count("uploads of 4 GiB inflated")
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// openUploads opens uploads and returns their sessions.
func (a *attack) openUploads(ctx context.Context) (sessions []string, err error) {
	g, working := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for range idleUploads / uploadsEach {
		id, err := a.open(ctx, 1, fmt.Sprintf("%064x", 2), "")
		if err != nil {
			return nil, err
		}
		sessions = append(sessions, id)
		g.Go(func() error {
			for i := range uploadsEach {
				if err := a.create(working, id, fmt.Sprint("p", i), 1, nil); err != nil {
					return err
				}
				a.count("uploads open")
			}
			return nil
		})
	}
	return sessions, g.Wait()
}

// claimBytes creates uploads as large as the token may, but for what the others need.
func (a *attack) claimBytes(ctx context.Context) error {
	id, err := a.open(ctx, 1, fmt.Sprintf("%064x", 3), "")
	if err != nil {
		return err
	}
	var names bytes.Buffer
	const most = 100
	name := func(i int) string { return fmt.Sprintf("%064x.filez", 1000+i) }
	for i := range most {
		fmt.Fprintln(&names, name(i))
	}
	if _, err := a.ask(ctx, "POST", "/api/v1/sessions/"+id+"/objects", names.Bytes()); err != nil {
		return err
	}
	var made []int64
	for size := int64(claimMost); size >= claimLeast && len(made) < most; {
		switch err := a.create(ctx, id, name(len(made)), size, nil); {
		case errors.Is(err, errRefused):
			size /= 2
		case err != nil:
			return err
		default:
			made = append(made, size)
		}
	}
	for left := int64(0); left < roomLeft; {
		last := len(made) - 1
		if last < 0 {
			return errors.New("hardly anything could be claimed")
		}
		if _, _, err := a.do(ctx, "DELETE", "/files/"+id+"/"+name(last), nil, nil); err != nil {
			return err
		}
		left, made = left+made[last], made[:last]
	}
	for _, size := range made {
		a.add("MiB claimed", size>>20)
	}
	return nil
}

// openSessions opens sessions of many refs, then of one, until no more may be.
func (a *attack) openSessions(ctx context.Context) error {
	for _, refs := range []int{fatRefs, 1} {
		for {
			_, err := a.open(ctx, refs, fmt.Sprintf("%064x", 4), "")
			if errors.Is(err, errRefused) {
				break
			}
			if err != nil {
				return err
			}
			a.count(fmt.Sprintf("sessions of %d refs", refs))
		}
	}
	return nil
}

// open opens a session of new refs at a commit.
func (a *attack) open(ctx context.Context, refs int, commit, old string) (string, error) {
	prefix := a.name("hostile/open-")
	list := make([]wire.Ref, refs)
	for i := range list {
		list[i] = wire.Ref{Ref: fmt.Sprintf("%s/%d", prefix, i), Old: old, New: commit}
	}
	return a.openRefs(ctx, list)
}

func (a *attack) openRefs(ctx context.Context, refs []wire.Ref) (string, error) {
	b, err := json.Marshal(wire.OpenRequest{Refs: refs})
	if err != nil {
		return "", err
	}
	b, err = a.ask(ctx, "POST", "/api/v1/sessions", b)
	if err != nil {
		return "", err
	}
	var s wire.Session
	err = json.Unmarshal(b, &s)
	return s.ID, err
}

// create creates an upload, and sends its bytes if there are any.
func (a *attack) create(ctx context.Context, session, name string, size int64, b []byte) error {
	kind := "pack"
	if _, err := ostree.ParseName(name); err == nil {
		kind = "object"
	}
	encode := base64.StdEncoding.EncodeToString
	header := http.Header{
		"Upload-Length":   {strconv.FormatInt(size, 10)},
		"Upload-Metadata": {fmt.Sprintf("session %s,%s %s", encode([]byte(session)), kind, encode([]byte(name)))},
	}
	if b != nil {
		header.Set("Content-Type", "application/offset+octet-stream")
	}
	status, answer, err := a.do(ctx, "POST", "/files/", b, header)
	if err != nil {
		return err
	}
	return refusal("create upload "+name, status, answer)
}

func (a *attack) ask(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	status, b, err := a.do(ctx, method, path, body, nil)
	if err != nil {
		return nil, err
	}
	return b, refusal(method+" "+path, status, b)
}

// errRefused says that the token has all that it may.
var errRefused = errors.New("refused")

// unlessRefused is the error of what may be refused for now and is tried again.
func unlessRefused(err error) error {
	if errors.Is(err, errRefused) {
		return nil
	}
	return err
}

func refusal(what string, status int, answer []byte) error {
	switch {
	case status < 300:
		return nil
	case status == http.StatusTooManyRequests, status == http.StatusInsufficientStorage:
		return fmt.Errorf("%s: %w: %s", what, errRefused, answer)
	}
	return fmt.Errorf("%s: %w", what, &statusError{status, answer})
}

// A statusError is an answer that is neither a success nor says that the token has all
// that it may.
type statusError struct {
	status int
	answer []byte
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.answer) }

// unlessThere is the error of a creation, unless the upload exists.
func unlessThere(err error) error {
	var e *statusError
	if errors.As(err, &e) && e.status == http.StatusConflict {
		return nil
	}
	return err
}

func (a *attack) do(ctx context.Context, method, path string, body []byte, header http.Header) (status int, answer []byte, err error) {
	status, answer, _, err = a.exchange(ctx, method, path, body, header)
	return status, answer, err
}

func (a *attack) exchange(ctx context.Context, method, path string, body []byte, header http.Header) (status int, answer []byte, answered http.Header, err error) {
	r, err := http.NewRequestWithContext(ctx, method, a.server+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	if header != nil {
		r.Header = header
	}
	r.Header.Set("Authorization", "Bearer "+hostileToken)
	r.Header.Set("Tus-Resumable", "1.0.0")
	resp, err := a.client.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, resp.Header, err
}

func (a *attack) name(prefix string) string { return prefix + strconv.FormatInt(a.salt.Add(1), 10) }

func (a *attack) count(what string) { a.add(what, 1) }

func (a *attack) add(what string, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.did[what] += n
}
