// SPDX-License-Identifier: AGPL-3.0-or-later

package console

import (
	"html/template"
	"strconv"
	"strings"
	"time"

	"github.com/lirios/ostree-upload/internal/units"
	"github.com/lirios/ostree-upload/internal/wire"
)

// templates are all pages and their parts.
var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"amount": units.Amount, "number": units.Thousands, "clock": clock, "stamp": stamp, "short": short,
	"left": left, "soon": soon, "outcome": outcome, "query": template.URLQueryEscaper, "join": strings.Join,
}).ParseFS(web, "web/*.html"))

// clock is a time as people read it, in UTC.
func clock(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05") + " UTC"
}

// stamp is a time for a script, which tells how long ago it is.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// short is the part of a commit that people tell it by.
func short(commit string) string { return commit[:min(len(commit), 10)] }

// left is a time to come in its largest units.
func left(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)+1) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)+1) + " min"
	}
	return strconv.Itoa(int(d/time.Hour)) + " h " + strconv.Itoa(int(d%time.Hour/time.Minute)) + " min"
}

// soonIs is when an operator should see to something that ends.
const soonIs = 14 * 24 * time.Hour

// soon tells whether something ends before long, or has ended.
func soon(t time.Time) bool { return time.Until(t) < soonIs }

// outcomes say what became of a session, by its state or the code of its error.
var outcomes = map[string]string{
	wire.Open: "receiving", wire.Verifying: "verifying", wire.Publishing: "publishing", wire.Held: "held: waits for somebody to publish it",
	wire.Published: "published", wire.Failed: "failed", wire.Aborted: "aborted", wire.Expired: "expired: nothing came for too long", wire.Rejected: "rejected",
	wire.MissingObjects: "objects were missing", wire.BadObjects: "objects were bad", wire.RefMoved: "somebody else moved the ref first",
	wire.NotFastForward: "the commit does not descend from what the ref names", wire.RefConflict: "refs stand in each other's way",
	wire.Policy: "the server's policy refuses it", wire.InsufficientStorage: "the disk was full", wire.Internal: "the server failed",
	wire.Forbidden: "its token lost the right to it", wire.Unauthorized: "its token was taken away",
}

// outcome says in words how a session stands or ended.
func outcome(s wire.Session) string {
	text := outcomes[s.State]
	if text == "" {
		text = s.State
	}
	if s.Error == "" {
		return text
	}
	why := outcomes[s.Error]
	if why == "" {
		why = s.Error
	}
	if s.State == wire.Open {
		return "not published: " + why
	}
	return text + ": " + why
}
