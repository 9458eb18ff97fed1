// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/receive"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/journal"
	"github.com/lirios/ostree-upload/tusstore"
)

// A Look reads the sessions of a state folder for which no server runs. It changes no
// file there.
type Look struct {
	state   string
	journal *journal.Journal
}

// OpenLook opens a state folder. The caller closes it soon: a server waits for that.
func OpenLook(state string) (*Look, error) {
	j, err := journal.OpenToRead(databasePath(state))
	switch {
	case err == nil:
		return &Look{state, j}, nil
	case errors.Is(err, journal.ErrHeld):
		return nil, hint.Add(fmt.Errorf("a server, or a check, has the state folder %s open", state),
			"ask the server: name it with --address, and leave out --state")
	case errors.Is(err, fs.ErrPermission):
		return nil, hint.Add(err, "run this as the owner of the repository, or as root")
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case !missing(filepath.Join(state, ".ostree-upload", "journal.db")):
		return nil, hint.Add(fmt.Errorf("there is no journal in %s, which is a repository", state),
			"name its state folder: --state %s", filepath.Join(state, ".ostree-upload"))
	}
	return nil, hint.Add(fmt.Errorf("there is no journal in %s: no server has used it as its state folder", state),
		"it is .ostree-upload in the repository, unless the configuration names another with state")
}

// Close lets go of the folder.
func (l *Look) Close() { _ = l.journal.Close() } // it was read only

// NewestSessions lists those in a state, or all for "", newest first, at most so many; 0
// for all.
func (l *Look) NewestSessions(_ context.Context, state string, most int) (list []wire.Session, err error) {
	q := journal.Query{State: journal.State(state), Limit: wire.MaxPage}
	for {
		if most > 0 {
			q.Limit = min(wire.MaxPage, most-len(list))
		}
		page, next, err := l.journal.List(q)
		for i := 0; i < len(page) && err == nil; i++ {
			page[i].Problems, err = l.journal.Problems(page[i].ID, receive.FewProblems)
			d := page[i].Document()
			d.Steps = nil // as in a list of the running server
			list = append(list, d)
			err = errors.Join(err, l.addUploads(&list[len(list)-1]))
		}
		if err != nil || next == "" || most > 0 && len(list) >= most {
			return list, err
		}
		q.Before = next
	}
}

// Session is one with all that is kept of it. There is nothing to wait for.
func (l *Look) Session(_ context.Context, id string, _ time.Duration) (wire.Session, error) {
	s, err := l.journal.Session(id)
	if errors.Is(err, journal.ErrNotFound) {
		return wire.Session{}, hint.Add(fmt.Errorf("there is no session %.64q in %s", id, l.state),
			"ostree-upload sessions --state %s lists those there are", l.state)
	}
	if err != nil {
		return wire.Session{}, err
	}
	d := s.Document()
	d.Uploads, err = tusstore.Left(l.state, id)
	return d, errors.Join(err, l.addUploads(&d))
}

// addUploads adds the bytes of uploads that are not done, which the journal does not
// know yet.
func (l *Look) addUploads(s *wire.Session) error {
	if journal.State(s.State).Final() {
		return nil
	}
	left, err := tusstore.Left(l.state, s.ID)
	for _, u := range left {
		s.Bytes.Received += u.Offset
	}
	return err
}
