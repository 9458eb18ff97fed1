// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"path/filepath"

	"github.com/lirios/ostree-upload/internal/after"
	"github.com/lirios/ostree-upload/publish"
)

// after are the works that follow a publish, as the configuration asks for them now.
func (s *Server) after() (followers []publish.Follower) {
	for _, w := range s.works() {
		followers = append(followers, w.Follower())
	}
	return followers
}

func (s *Server) works() (works []after.Work) {
	repo, err := filepath.Abs(s.opt.Repo)
	if err != nil { // there is no working directory any more
		repo = s.opt.Repo
	}
	for _, a := range s.opt.Settings().After {
		works = append(works, after.Work{After: a, Repo: repo, Log: s.opt.Log})
	}
	return works
}

// warnOfWorks tells in the log, before there is a publish, which works cannot be done.
func (s *Server) warnOfWorks() {
	for _, w := range s.works() {
		if err := w.Check(); err != nil {
			s.opt.Log.Warn("a work that is to follow each publish cannot be done", "work", w.Name, "err", err)
		}
	}
}
