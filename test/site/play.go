// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/link"
	"github.com/lirios/ostree-upload/test/must"
)

// A Play is one run of a scenario, on a copy of its site.
type Play struct {
	*Site
	scenario *Scenario
	Twin     *Twin
	Mishap   *Mishap     // of the server or, if there is none, of the client
	disk     *Disk       // nil but for power cuts
	Proxy    *link.Proxy // to the server
}

// StartFaulty starts the server with the mishap. Where that ends it before it
// listens, one without follows.
func (p *Play) StartFaulty() {
	p.T.Helper()
	if p.Bucket != nil {
		p.failRequests(nil) // none of them has the mishap
	}
	var err error
	p.Server, err = StartProgram(FaultyProgram(p.T), p.Dir, append(p.env(), p.Mishap.Env(p.Dir)...), p.scenario.Args...)
	if err == nil {
		p.URL = "http://" + p.Server.Address
		p.Proxy = p.Link()
		return
	}
	if !p.Mishap.Hit(p.T) {
		p.T.Fatal(err)
	}
	p.Ended()
	p.Start(p.scenario.Args...)
	p.Proxy = p.Link()
}

// Ended checks what a server that the mishap has ended left behind.
func (p *Play) Ended() {
	p.T.Helper()
	if p.disk != nil && p.Mishap.Hit(p.T) {
		p.disk.RestoreOrSkip()
	}
	p.Look()
	if Missing(filepath.Join(p.Prod, "config")) || !Missing(filepath.Join(p.Prod, ".ostree-upload.init")) {
		return // no repository yet
	}
	if p.scenario.damaged != nil {
		p.noWorse()
		return
	}
	if notes := p.Twin.Sound(p.Site, p.Mishap.String()); LeftBehind(notes) {
		p.T.Log(notes)
	}
}

// Publish pushes until all is published, as often as a person would give the
// same command, and until what follows was tried.
func (p *Play) Publish() {
	p.T.Helper()
	client := p.Client()
	for again := 0; ; {
		var e Ending
		select {
		case e = <-client:
		case <-p.Server.Ended:
			p.Ended()
			p.Restart(p.Proxy)
			e = <-client
		}
		if e.Exit == 0 {
			p.awaitWorks()
			return
		}
		if again++; again > 2 {
			p.T.Fatalf("%s: exit code %d, for the third time:\n%s", p.Mishap, e.Exit, e.Stderr)
		}
		client = p.Client()
	}
}

// Client starts the push.
func (p *Play) Client() <-chan Ending {
	p.T.Helper()
	return p.background(p.pushing())
}

func (p *Play) pushing() *exec.Cmd {
	args := []string{"push", "--json", "--repo", p.Twin.Repo, "--jobs", "1", "--retry-for", must.Patience.String()}
	if p.scenario.damaged != nil {
		args = append(args, "--repair")
	}
	if p.scenario.Encoding != "" {
		args = append(args, "--encoding", p.scenario.Encoding)
	}
	return p.Command(args...)
}

// FaultyClient starts the push with the mishap.
func (p *Play) FaultyClient() <-chan Ending {
	p.T.Helper()
	cmd := p.pushing()
	cmd.Path, cmd.Env = FaultyProgram(p.T), append(cmd.Env, p.Mishap.Env("")...)
	return p.background(cmd)
}

func (p *Play) background(cmd *exec.Cmd) <-chan Ending {
	p.T.Helper()
	cmd.Dir = p.Twin.Repo // nobody is on a disk that loses power
	wait := Background(p.T, cmd)
	ended := make(chan Ending, 1)
	go func() { ended <- wait() }()
	return ended
}

// Stop stops the server, which may be where the mishap is.
func (p *Play) Stop() {
	p.T.Helper()
	if err := p.Server.Stop(); err != nil {
		if !p.Mishap.Hit(p.T) {
			p.T.Fatal(err)
		}
		p.Ended()
	}
}

// Finish stops the server and checks that all is published and followed, and nothing
// left behind.
func (p *Play) Finish() {
	p.T.Helper()
	p.Stop()
	p.Start()
	if list := p.Sessions(wire.Open); len(list) > 0 {
		p.T.Errorf("%s: sessions %+v are still open", p.Mishap, list)
	}
	p.checkFollowed()
	must.OK(p.T, p.Server.Stop())
	if notes := p.Twin.Sound(p.Site, p.Mishap.String()+", published"); LeftBehind(notes) {
		p.T.Errorf("%s: left behind: %s", p.Mishap, notes)
	}
	if p.scenario.damaged == nil {
		p.Twin.Arrived(p.Site)
	}
	if p.scenario.deltas {
		p.checkDeltas()
	}
	if p.Bucket != nil {
		p.checkMarks()
		p.checkBeforeMove()
	}
	summary := must.OSTree(p.T, "summary", "--view", "--repo="+p.Prod)
	for _, commit := range p.Twin.Heads[p.Twin.N-1] {
		if !strings.Contains(summary, commit) {
			p.T.Errorf("%s: the summary does not name %s", p.Mishap, commit)
		}
	}
}

// Run plays it to its end.
func (p *Play) Run() {
	p.T.Helper()
	p.StartFaulty()
	p.Publish()
	p.Finish()
}
