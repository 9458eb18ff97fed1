// SPDX-License-Identifier: AGPL-3.0-or-later

package site

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
)

// follows is the configuration of a work that notes the sessions that it is done for, in
// a way that no power cut undoes.
const follows = `after: [{command: [sh, -c, 'echo "$OSTREE_SESSION" >> followed && sync followed']}]`

// The file in which they are noted, in the site's folder.
func followed(dir string) string { return filepath.Join(dir, "followed") }

// awaitWorks waits until what follows the publishes was tried; where the mishap ends the
// server, another one does it.
func (p *Play) awaitWorks() {
	p.T.Helper()
	must.Wait(p.T, "what follows the publishes was tried", func() bool {
		select {
		case <-p.Server.Ended:
			p.Ended()
			p.Restart(p.Proxy)
		default:
		}
		return p.works(wire.WorkDone, wire.WorkFailed)
	})
}

// works tells whether all works of published sessions are in one of these states.
func (p *Play) works(states ...string) bool {
	p.T.Helper()
	e := p.Site.Run("sessions", "--json", "--status", wire.Published)
	if e.Exit != 0 { // the mishap has ended the server just now
		return false
	}
	var list wire.SessionList
	must.OK(p.T, json.Unmarshal([]byte(e.Stdout), &list))
	for _, s := range list.Sessions {
		if slices.ContainsFunc(s.After, func(a wire.After) bool { return !slices.Contains(states, a.State) }) {
			return false
		}
	}
	return true
}

// checkFollowed checks that the work was done for each session that was published, and
// for no other.
func (p *Play) checkFollowed() {
	p.T.Helper()
	must.Wait(p.T, "what follows the publishes is done", func() bool { return p.works(wire.WorkDone) })
	b, err := os.ReadFile(followed(p.Dir))
	must.OK(p.T, err)
	noted := strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' || r == ' ' || r == 0 }) // 0: torn
	published := map[string]bool{}
	for _, s := range p.Sessions(wire.Published) {
		if published[s.ID] = true; !slices.Contains(noted, s.ID) {
			p.T.Errorf("%s: session %s is published and not followed", p.Mishap, s.ID)
		}
	}
	for _, id := range noted {
		if !published[id] {
			p.T.Errorf("%s: %q is followed and not published", p.Mishap, id)
		}
	}
}
