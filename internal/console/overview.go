// SPDX-License-Identifier: AGPL-3.0-or-later

package console

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
)

// What the overview lists at most of each kind; the page of all sessions has the rest.
const (
	mostLive  = 100
	mostEnded = 50
	lookBack  = mostLive + mostEnded // sessions among which those that ended are looked for
)

// live are the states of sessions that have not ended, in the order in which they are shown.
var live = []string{wire.Publishing, wire.Verifying, wire.Open, wire.Held}

// home is the first page: the overview or, of a server with several repositories, the
// choice of one.
func home(r *request) (*view, error) {
	if r.console.cfg.Settings().Repositories != nil && r.repository == "" {
		list, err := r.repositories()
		if err != nil {
			return nil, err
		}
		return &view{Title: "Repositories", Nav: "home", Every: beatEvery, Sections: []section{{"repositories", "repositories", choices(list)}}}, nil
	}
	return overview(r)
}

func overview(r *request) (*view, error) {
	h, err := r.health()
	if err != nil {
		return nil, err
	}
	underWay, err := r.underWay(holder(h.Who.Token))
	if err != nil {
		return nil, err
	}
	ended, err := r.endedLately(&h, &underWay)
	if err != nil {
		return nil, err
	}
	v := &view{Title: "Overview", Nav: "home", Every: time.Second, Sections: []section{
		{"health", "health", h}, {"under-way", "under-way", underWay},
	}}
	if h.Status != nil {
		v.Sections = append(v.Sections, section{"works", "works", h.Status.Works}, section{"throughput", "throughput", plotOf(h.Status.Throughput)})
	}
	v.Sections = append(v.Sections, section{"ended", "ended", ended})
	return v, nil
}

// health is how the server stands, as far as the token may see it.
type health struct {
	Who    whoIs
	Status *wire.Status // nil if it may not
}

func (r *request) health() (h health, err error) {
	if h.Who, err = r.who(); err != nil {
		return h, err
	}
	var status wire.Status
	err = r.get(&status, "/api/v1/status", nil)
	if refused(err, http.StatusForbidden) {
		return h, nil
	}
	h.Status = &status
	return h, err
}

// underWay are the sessions that have not ended: those that the token sees, and those that
// it may publish.
func (r *request) underWay(t *token.Token) (list sessionRows, err error) {
	queries := []url.Values{{"live": {"1"}, "limit": {strconv.Itoa(mostLive)}}}
	if t.May(token.Publish) && !t.May(token.Sessions) {
		queries = append(queries, url.Values{"state": {wire.Held}, "limit": {strconv.Itoa(mostLive)}})
	}
	seen := map[string]bool{}
	for _, q := range queries {
		page, err := r.list(q)
		if err != nil {
			return list, err
		}
		list.More = list.More || page.Next != ""
		for _, s := range page.Sessions {
			if !seen[s.ID] {
				list.Rows, seen[s.ID] = append(list.Rows, r.row(s)), true
			}
		}
	}
	slices.SortStableFunc(list.Rows, func(a, b sessionRow) int {
		return cmp.Compare(slices.Index(live, a.State), slices.Index(live, b.State))
	})
	return list, nil
}

// endedOf is what a stream knows of the sessions that ended.
type endedOf struct {
	list sessionRows
	at   time.Time
	when string // what was the case of those that had not ended
}

// How long a stream relies on what it knows of the sessions that ended, if it sees that
// none has ended since, and if a token without a view of all cannot see that.
const (
	endedFor    = 10 * time.Second
	endedUnseen = 3 * time.Second
)

// endedLately is ended, asked for only when one has ended: it is most of a look.
func (r *request) endedLately(h *health, underWay *sessionRows) (list sessionRows, err error) {
	when, lasts := fmt.Sprint(h.Who.Token.Scopes), endedUnseen // by which a token sees what it sees
	if h.Status != nil {
		when, lasts = when+fmt.Sprint(h.Status.Sessions), endedFor
	}
	for _, row := range underWay.Rows {
		when += " " + row.ID
	}
	now := time.Now()
	if known := r.known; known != nil && known.when == when && now.Sub(known.at) < lasts {
		return known.list, nil
	}
	if list, err = r.ended(); err == nil {
		r.known = &endedOf{list, now, when}
	}
	return list, err
}

// ended are the sessions that ended last.
func (r *request) ended() (list sessionRows, err error) {
	page, err := r.list(url.Values{"limit": {strconv.Itoa(lookBack)}})
	if err != nil {
		return list, err
	}
	list.More = page.Next != ""
	done := slices.DeleteFunc(page.Sessions, func(s wire.Session) bool { return slices.Contains(live, s.State) })
	slices.SortStableFunc(done, func(a, b wire.Session) int { return b.Updated.Compare(a.Updated) })
	for _, s := range done[:min(len(done), mostEnded)] {
		list.Rows = append(list.Rows, sessionRow{Session: s})
	}
	return list, nil
}

func (r *request) list(q url.Values) (list wire.SessionList, err error) {
	err = r.get(&list, "/api/v1/sessions", q)
	return list, err
}

// sessionRows is a table of sessions.
type sessionRows struct {
	Rows []sessionRow
	More bool // there are some that it does not have
}

// sessionRow is a session with how fast it goes.
type sessionRow struct {
	wire.Session
	Speed speed
}

// There is how many of its objects the server has.
func (s sessionRow) There() int64 { return s.Objects.Known - s.Objects.Missing }

// More is how many refs it has beside the first.
func (s sessionRow) More() int64 { return int64(max(s.RefCount, len(s.Refs)) - 1) }

func (r *request) row(s wire.Session) sessionRow {
	return sessionRow{s, r.console.rates.of(r.repository, &s, time.Now())}
}

// plot is the throughput as a drawing of width by height.
type plot struct {
	Width, Height int
	Points        string // of the line
	Most          int64  // bytes a second at the top
	Now           int64
	Since, Until  time.Time
}

// plotOf draws one point for each interval.
func plotOf(t wire.Throughput) plot {
	p := plot{Width: 360, Height: 60, Until: t.Until}
	p.Since = t.Until.Add(-time.Duration(len(t.Bytes)*t.Every) * time.Second)
	every := int64(cmp.Or(t.Every, 1))
	for _, b := range t.Bytes {
		p.Most, p.Now = max(p.Most, b/every), b/every
	}
	at := p.Width - len(t.Bytes)
	for i, b := range t.Bytes {
		y := int64(p.Height)
		if p.Most > 0 {
			y -= int64(p.Height) * (b / every) / p.Most
		}
		p.Points += strconv.Itoa(at+i) + "," + strconv.FormatInt(y, 10) + " "
	}
	return p
}
