// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"path/filepath"

	"gopkg.in/yaml.v3"
)

// What becomes of the repository's summary file when a session is published.
const (
	SummaryAuto   = "auto"   // regenerate one that is there and may be touched
	SummaryAlways = "always" // regenerate it
	SummaryNever  = "never"  // leave it alone
)

// Repository is a repository that is served, and what holds for it alone.
type Repository struct {
	Name    string  // the first part of its paths; "" for the only one, which has none
	Repo    string  // path of the production repository
	State   string  // state folder; "" for the one inside the repository
	Summary string  // SummaryAuto, SummaryAlways or SummaryNever
	After   []After // works that follow a publish besides the summary, in their order
}

func defaultRepository(repo string) Repository {
	return Repository{Repo: repo, Summary: SummaryAuto}
}

// StateFolder is where the server keeps what is not yet published: State, or
// .ostree-upload inside Repo. Inside, because import is then a hard link.
func (r *Repository) StateFolder() string {
	if r.State != "" {
		return r.State
	}
	return filepath.Join(r.Repo, ".ostree-upload")
}

// repositoryForm has the keys of a Repository.
type repositoryForm struct {
	Repo    yaml.Node   `yaml:"repo"`
	State   yaml.Node   `yaml:"state"`
	Summary yaml.Node   `yaml:"summary"`
	After   []afterForm `yaml:"after"`
}

func (p *parser) repository(form *repositoryForm, r *Repository) {
	p.text(&form.Repo, "repo", &r.Repo)
	p.text(&form.State, "state", &r.State)
	p.oneOf(&form.Summary, "summary", &r.Summary, SummaryAuto, SummaryAlways, SummaryNever)
	r.After = p.after(form.After)
}
