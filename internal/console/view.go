// SPDX-License-Identifier: AGPL-3.0-or-later

package console

import (
	"bytes"
	"cmp"
	"errors"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

// view is what a page shows.
type view struct {
	Title    string
	Nav      string // which of the links at the top it belongs to
	Sections []section
	Every    time.Duration // how often it is looked whether something changed; 0: it stands still
}

// section is a part of a page that changes by itself.
type section struct {
	ID   string
	name string // of its template
	data any
}

// rendered is a section as it is sent.
type rendered struct {
	ID   string
	HTML template.HTML // made by a template of ours
}

// page is what the layout needs.
type page struct {
	*view
	Root       string // the way to the first page of the repository
	Up         string // and to that of all
	Repository string
	Others     []choice // the repositories, if there are several
	Who        string   // the token's name
	Parts      []rendered
	At         time.Time
}

// choice is a repository that can be looked at.
type choice struct{ Name, State string }

// whoIs is who has signed in.
type whoIs struct {
	Token        wire.InfoToken
	Info         *wire.Info // of the repository; nil if none is named
	Repositories []choice
}

// who asks the API who has signed in. A stream relies on that for a while: it tells what
// is shown, and not what may be done.
func (r *request) who() (who whoIs, err error) {
	if !r.whoAt.IsZero() && time.Since(r.whoAt) < whoFor {
		return r.whoWas, nil
	}
	if who, err = r.askWho(); err == nil {
		r.whoWas, r.whoAt = who, time.Now()
	}
	return who, err
}

const whoFor = judgeEvery

func (r *request) askWho() (whoIs, error) {
	if r.console.cfg.Settings().Repositories == nil || r.repository != "" {
		var info wire.Info
		if err := r.get(&info, "/api/v1/info", nil); err != nil {
			return whoIs{}, err
		}
		return whoIs{Token: *info.Token, Info: &info}, nil
	}
	list, err := r.repositories()
	return whoIs{Token: list.Token, Repositories: choices(list)}, err
}

// repositories asks for the list of several.
func (r *request) repositories() (list wire.RepositoryList, err error) {
	whole := *r
	whole.repository = ""
	err = whole.get(&list, "/api/v1/repositories", nil)
	return list, err
}

func choices(list wire.RepositoryList) (all []choice) {
	for _, name := range slices.Sorted(maps.Keys(list.Repositories)) {
		all = append(all, choice{name, list.Repositories[name]})
	}
	return all
}

// page makes what the layout shows of a view.
func (r *request) page(v *view) page {
	p := page{view: v, Root: r.root, Up: r.root, Repository: r.repository, At: time.Now()}
	if r.console.cfg.Settings().Repositories != nil {
		if list, err := r.repositories(); err == nil { // else the page has no choice
			p.Others, p.Who = choices(list), list.Token.Name
		}
	} else if who, err := r.who(); err == nil {
		p.Who = who.Token.Name
	}
	if r.repository != "" {
		p.Up += "../"
	}
	p.Parts = r.render(v.Sections)
	return p
}

// render makes sections of a view.
func (r *request) render(sections []section) []rendered {
	parts := make([]rendered, len(sections))
	for i, s := range sections {
		var text bytes.Buffer
		data := struct {
			Root string
			Of   any
		}{r.root, s.data}
		if err := templates.ExecuteTemplate(&text, s.name, data); err != nil {
			r.console.cfg.Log.Error("a part of a page cannot be made", "part", s.name, "err", err)
			text.Reset()
			text.WriteString("<p>This part cannot be made; the server's log says why.</p>")
		}
		parts[i] = rendered{s.ID, template.HTML(text.String())} // #nosec G203 -- made by html/template
	}
	return parts
}

// failed is the page about an error, and its status.
func failed(err error) (*view, int) {
	status, said := http.StatusInternalServerError, message{What: err.Error()}
	var p *wire.Problem
	if errors.As(err, &p) {
		status, said = cmp.Or(p.Status, status), message{p.Error(), p.HintIs, p.Request}
	}
	v := &view{Title: "Refused", Sections: []section{{"message", "message", said}}}
	if status >= http.StatusInternalServerError { // it may be over soon
		v.Every = beatEvery
	}
	return v, status
}

// message is what a page says that shows nothing else.
type message struct{ What, Hint, Request string }
