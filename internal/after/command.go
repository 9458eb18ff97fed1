// SPDX-License-Identifier: AGPL-3.0-or-later

package after

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/lirios/ostree-upload/internal/program"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/publish"
)

// document is what a command gets on its stdin.
type document struct {
	Work         string         `json:"work"`
	Repository   string         `json:"repository"`
	Refs         []string       `json:"refs"`          // that moved and that the work concerns
	AllRefs      bool           `json:"all-refs"`      // Refs is empty: they are too many
	Sessions     []wire.Session `json:"sessions"`      // that were published, the oldest first
	MoreSessions int            `json:"more-sessions"` // that are not in Sessions: they are too many, or forgotten
}

// command runs the program of the configuration.
func (w *Work) command(ctx context.Context, d publish.Due) error {
	stdin, err := json.Marshal(w.document(d))
	if err != nil {
		return err
	}
	return w.run(ctx, program.Command{Args: w.Command, Env: environment(d), Stdin: append(stdin, '\n')}, program.DefaultTimeout)
}

func (w *Work) document(d publish.Due) document {
	doc := document{
		Work: w.Name, Repository: w.Repo, Refs: append([]string{}, d.Refs...), AllRefs: d.All,
		Sessions: []wire.Session{}, MoreSessions: d.More,
	}
	for i := range d.Sessions {
		doc.Sessions = append(doc.Sessions, d.Sessions[i].Document())
	}
	return doc
}

// environment tells the same in short. Names of refs and IDs of sessions have no blanks.
// Where the refs are too many there is no list of them, so that none is taken for all.
func environment(d publish.Due) []string {
	var ids []string
	for _, s := range d.Sessions {
		ids = append(ids, s.ID)
	}
	env := []string{"OSTREE_UPLOAD_WORK=" + d.Work, "OSTREE_SESSION=" + strings.Join(ids, " ")}
	if d.All {
		return append(env, "OSTREE_ALL_REFS=1")
	}
	return append(env, "OSTREE_REFS="+strings.Join(d.Refs, " "))
}
