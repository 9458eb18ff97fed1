// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"path/filepath"

	"github.com/lirios/ostree-upload/internal/after"
	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/deltas"
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
	d := s.deltas(repo)
	settings := s.opt.Settings()
	told := repo
	if s.opt.Bucket != nil {
		told = s.opt.where() // what is on the disk would look like a repository without objects
	}
	for _, a := range settings.After {
		works = append(works, after.Work{After: a, Repo: told, Deltas: d, GPG: settings.Sign.GPG, Log: s.opt.Log})
	}
	return works
}

// deltas are the static deltas that the configuration asks for.
func (s *Server) deltas(repo string) after.Deltas {
	settings := s.opt.Settings()
	k := &deltas.Keeper{Repo: repo, State: s.opt.State, Generate: deltas.InProcess(repo), Log: s.opt.Log}
	return after.DeltasOf(settings.After, k, int64(settings.Limits.MinFreeSpace))
}

// cleanDeltas has the static deltas removed that were superseded long ago, when no publish
// asks for that.
func (s *Server) cleanDeltas() error {
	d := s.deltas(s.opt.Repo)
	if d.Work == "" {
		return nil
	}
	old, err := d.Keeper.Old(d.Settings.Keep)
	if err != nil || !old {
		return err
	}
	return s.Publisher.Ask(d.Work)
}

// summary tells what becomes of the summary: Flatpak writes it where it is a work, and
// clients find static deltas by one.
func (s *Server) summary() publish.Summary {
	settings := s.opt.Settings()
	for _, a := range settings.After {
		if a.Kind == config.AfterFlatpak && a.Flatpak.WritesSummary() {
			return publish.Elsewhere
		}
	}
	if settings.Summary == config.SummaryAuto && s.deltas(s.opt.Repo).Work != "" {
		return publish.First
	}
	return publish.Summary(settings.Summary)
}

// warnOfWorks tells in the log, before there is a publish, which works cannot be done.
func (s *Server) warnOfWorks() {
	for _, w := range s.works() {
		if err := w.Check(); err != nil {
			s.opt.Log.Warn("a work that is to follow each publish cannot be done", "work", w.Name, "err", err)
		}
	}
}
