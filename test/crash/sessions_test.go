// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/server"
	"github.com/lirios/ostree-upload/test/site"
)

// A session with staged objects and an upload under way is aborted. At each point
// of the server it is killed, loses power, or a call fails: the same abort again
// ends the session, nothing of it is left, and its push goes through.
func TestAbortPoints(t *testing.T) {
	t.Parallel()
	everyEnding(t, &ending{scenario: site.NewUpdate(t), end: (*unfinished).abort, state: wire.Aborted})
}

// The same for a session that expires. Here the points are those that come once
// the session is staged: until then, they are the same.
func TestExpiryPoints(t *testing.T) {
	t.Parallel()
	c := &ending{scenario: site.NewUpdate(t), end: (*unfinished).expire, state: wire.Expired, lateOnly: true}
	c.scenario.Site(t).Configure(shortTTL)
	everyEnding(t, c)
}

const shortTTL = "session-ttl: 10s" // until then the session is staged, and the janitor's rounds are no longer apart

// An ending is a way in which sessions end before they are published.
type ending struct {
	scenario *site.Scenario
	end      func(*unfinished) error
	state    string
	lateOnly bool // about the points at which there is something to end
}

// An unfinished is a play of an ending.
type unfinished struct {
	*site.Play
	state string // in which its sessions end
}

func everyEnding(t *testing.T, c *ending) {
	record := &site.Mishap{Record: filepath.Join(t.TempDir(), "points")}
	early := c.play(t, record)
	points := record.Points(t)
	if c.lateOnly {
		points = points[early:]
	}
	play := func(t *testing.T, f *site.Mishap) { c.play(t, f) }
	site.EveryMishap(t, points, slices.Concat(site.Kills, site.Errnos), 3, play)
	t.Run("power cuts", func(t *testing.T) {
		site.NewDisk(t, 64<<20) // skips where there can be none
		site.EveryMishap(t, points, site.PowerCuts, 2, play)
	})
}

// play ends a session and then pushes what it was for. It returns how many points
// there were before the end.
func (c *ending) play(t *testing.T, f *site.Mishap) (early int) {
	t.Helper()
	p := &unfinished{c.scenario.Play(t, f), c.state}
	p.StartFaulty()
	p.persist(p.stage)
	early = len(f.Points(t))
	p.persist(func() error { return c.end(p) })
	p.Stop()
	if f.Effect == "" {
		p.allEnded() // and a start has nothing to take away
	}
	p.Start()
	must.OK(t, p.Server.Stop())
	p.allEnded()

	b, err := os.ReadFile(p.Config())
	must.OK(t, err)
	must.OK(t, os.WriteFile(p.Config(), []byte(strings.Replace(string(b), shortTTL+"\n", "", 1)), 0o600))
	p.Start()
	p.Proxy = p.Link()
	p.Publish()
	p.Finish()
	return early
}

// persist tries until it works, a few times, as a person would; where the mishap
// has ended the server, with another one.
func (p *unfinished) persist(try func() error) {
	p.T.Helper()
	for failed := 0; ; {
		err := try()
		if err == nil {
			return
		}
		var answer *wire.Problem
		if _, gone := p.API().Sessions(p.T.Context(), ""); gone != nil && !errors.As(gone, &answer) {
			if p.Server.Wait() == nil || !p.Mishap.Hit(p.T) {
				p.T.Fatalf("%s: the server has ended by itself:\n%s", p.Mishap, &p.Server.Log)
			}
			p.Ended()
			p.Start()
			must.OK(p.T, p.Server.Stop())
			p.nothingLeft()
			p.Start()
		} else if failed++; failed > 2 {
			p.T.Fatalf("%s: for the third time: %v", p.Mishap, err)
		}
	}
}

// stage opens a session, and brings all of its objects but for half of the one
// that travels alone.
func (p *unfinished) stage() error {
	repo, heads := p.Twin.Repo, p.Twin.Heads
	r := &requests{c: server.NewClient(p.T, "http://"+p.Server.Address, p.Token)}
	var open wire.OpenRequest
	var commits []ostree.Checksum
	for i, ref := range site.TwoRefs {
		commit, err := ostree.ParseChecksum(heads[1][i])
		must.OK(p.T, err)
		commits = append(commits, commit)
		open.Refs = append(open.Refs, wire.Ref{Ref: ref, Old: heads[0][i], New: heads[1][i]})
	}
	body, err := json.Marshal(open)
	must.OK(p.T, err)
	var s wire.Session
	if a := r.send("POST", "/api/v1/sessions", body); r.err == nil {
		must.OK(p.T, json.Unmarshal(a.Body, &s))
	}
	names := server.Objects(p.T, repo, commits...)
	negotiate := func() server.Answer {
		return r.send("POST", "/api/v1/sessions/"+s.ID+"/objects", wire.FormatNames(names), "Content-Type", "text/plain")
	}
	lacking, err := wire.ParseNames(strings.NewReader(string(negotiate().Body)), wire.MaxNames)
	must.OK(p.T, err)
	alone := slices.IndexFunc(lacking, func(n ostree.Name) bool { return isLarge(p.T, repo, n) })
	if r.err != nil || alone < 0 {
		return errors.Join(r.err, fmt.Errorf("it lacks %v", lacking))
	}
	large := server.Object(p.T, repo, lacking[alone])
	pack := server.Pack(p.T, repo, slices.Delete(slices.Clone(lacking), alone, alone+1)...)
	r.upload(s.ID, "pack", "pack-0", len(pack), pack)
	negotiate() // waits for the ingest
	r.upload(s.ID, "object", lacking[alone].String(), len(large), large[:len(large)/2])
	if r.err != nil || p.Mishap.Effect != "" {
		return r.err
	}
	now, err := p.API().Session(p.T.Context(), s.ID, 0)
	if err == nil && (now.Objects.Staged == 0 || len(now.Uploads) == 0) {
		p.T.Errorf("the session has %+v and uploads %v: there is nothing to end", now.Objects, now.Uploads)
	}
	return err
}

// isLarge tells whether an object travels alone.
func isLarge(t *testing.T, repo string, n ostree.Name) bool {
	t.Helper()
	return n.Type == ostree.File && fileSize(t, filepath.Join(repo, "objects", n.Path())) > wire.MaxPackPayload
}

// requests go to a server until one of them fails.
type requests struct {
	c   *server.Client
	err error
}

func (r *requests) send(method, path string, body []byte, headers ...string) (a server.Answer) {
	if r.err != nil {
		return a
	}
	a, r.err = r.c.Try(method, path, body, headers...)
	if r.err == nil && a.Status >= 300 {
		r.err = fmt.Errorf("%s %s: status %d: %s", method, path, a.Status, a.Body)
	}
	if r.err != nil {
		return server.Answer{}
	}
	return a
}

// upload creates an upload and sends some of its bytes.
func (r *requests) upload(session, kind, name string, length int, b []byte) {
	r.send("POST", "/files/", nil, "Tus-Resumable", "1.0.0", "Upload-Length", strconv.Itoa(length),
		"Upload-Metadata", server.Metadata("session", session, kind, name))
	r.send("PATCH", "/files/"+session+"/"+name, b, "Tus-Resumable", "1.0.0",
		"Content-Type", "application/offset+octet-stream", "Upload-Offset", "0")
}

// abort aborts all sessions that are open, and those that were aborted again.
func (p *unfinished) abort() error {
	all, err := p.API().Sessions(p.T.Context(), "")
	for _, s := range all {
		if s.State != wire.Open && s.State != wire.Aborted {
			continue // published before
		}
		if e := p.Site.Run("sessions", "abort", s.ID); e.Exit != 0 {
			return fmt.Errorf("abort of %s: exit code %d: %s", s.ID, e.Exit, e.Stderr)
		}
	}
	return err
}

// expire waits until no session is open.
func (p *unfinished) expire() error {
	api := p.API()
	for deadline := time.Now().Add(must.Patience); ; {
		open, err := api.Sessions(p.T.Context(), wire.Open)
		if err != nil || len(open) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d sessions do not expire", len(open))
		}
		if _, err := api.Session(p.T.Context(), open[0].ID, time.Second); err != nil { // or until it ends
			return err
		}
	}
}

// allEnded checks, while no server runs, that all sessions have ended as they
// should, and that nothing is left of them.
func (p *unfinished) allEnded() {
	p.T.Helper()
	states := p.nothingLeft()
	if states[p.state] == 0 || len(states) != 2 { // and those that are published
		p.T.Errorf("%s: sessions in states %v", p.Mishap, states)
	}
}

// nothingLeft checks, while no server runs, that check finds nothing and that no
// session that has ended has objects or uploads. It counts sessions by state.
func (p *unfinished) nothingLeft() (states map[string]int) {
	p.T.Helper()
	if notes := p.Twin.Sound(p.Site, p.Mishap.String()+", "+p.state); site.LeftBehind(notes) {
		p.T.Errorf("%s: left behind: %s", p.Mishap, notes)
	}
	state := filepath.Join(p.Prod, ".ostree-upload")
	j, err := journal.OpenFile(filepath.Join(state, "journal.db"))
	must.OK(p.T, err)
	defer func() { must.OK(p.T, j.Close()) }()
	sessions, err := j.Sessions(nil)
	must.OK(p.T, err)
	states = map[string]int{}
	for _, s := range sessions {
		states[string(s.State)]++
		if !s.State.Final() {
			continue
		}
		objects := 0
		must.OK(p.T, j.Each(s.ID, func(ostree.Name, journal.Status) error { objects++; return nil }))
		if objects > 0 || !site.Missing(filepath.Join(state, "uploads", s.ID)) {
			p.T.Errorf("%s: session %s is %s, and has %d objects or uploads", p.Mishap, s.ID, s.State, objects)
		}
	}
	return states
}
