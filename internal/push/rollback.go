// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/wire"
)

// wayBack is the commit that a ref had before its last move or, if to is given, the one
// that to is the beginning of, of those that it had as far as the server remembers.
func (r *run) wayBack(ctx context.Context, ref, to string) (string, error) {
	var log wire.RefLog
	err := r.retrier.Do(ctx, "ask for the log of "+ref, func() (err error) {
		log, err = r.client.RefLog(ctx, ref, "", wire.MaxPage)
		return err
	})
	if client.Status(err) == http.StatusNotFound {
		return "", r.unknownRef(ref)
	}
	if err != nil {
		return "", err
	}
	if len(log.Moves) == 0 {
		return "", r.noWayBack(wire.NotFound, "set it to a commit: ostree-upload refs set --force "+ref+" COMMIT",
			"the server remembers no move of ref %s, so nothing tells what it was before", ref)
	}
	if to != "" {
		return r.hadBefore(ref, to, log.Moves)
	}
	last, is := log.Moves[0], r.serverRefs[ref].Commit
	if last.New != is {
		return "", r.noWayBack(wire.RefMoved, "see ostree-upload refs log "+ref+", and name the commit with --to",
			"ref %s is at %s, and no session moved it there: the last one moved it to %s", ref, orNothing(is), orNothing(last.New))
	}
	if last.Old == "" {
		return "", r.noWayBack(wire.NotFound, "to take it away: ostree-upload refs delete "+ref,
			"ref %s was new with its last move, so there is nothing before it", ref)
	}
	return last.Old, nil
}

// hadBefore finds the one commit of a log that begins with to.
func (r *run) hadBefore(ref, to string, moves []wire.RefMove) (found string, err error) {
	for _, m := range moves {
		for _, c := range []string{m.Old, m.New} {
			if !strings.HasPrefix(c, to) || c == found {
				continue
			}
			if found != "" {
				return "", r.noWayBack(wire.BadRequest, "give more digits", "ref %s had several commits that begin with %s, such as %s and %s", ref, to, found, c)
			}
			found = c
		}
	}
	if found == "" {
		return "", r.noWayBack(wire.NotFound, "if you want that commit all the same: ostree-upload refs set --force "+ref+" COMMIT",
			"ref %s never was at %s, as far as the server remembers", ref, to)
	}
	return found, nil
}

func (r *run) noWayBack(code, hint, format string, args ...any) error {
	return &Error{Exit: ExitRefused, Code: code, Err: fmt.Errorf(format, args...), HintText: hint}
}

func orNothing(commit string) string {
	if commit == "" {
		return "no commit"
	}
	return commit
}
